"""The rules of configuration values; each function returns the value parsed, or raises Rejected.

Sources: Hetzner's names (docs.hetzner.cloud), headscale 0.29 (hscontrol/types/config.go, Prometheus durations), DNS
(RFC 1035), OpenSSH (sshd(8), PROTOCOL.key). Nothing here asks a cloud or reads a configuration.
"""

import re
import stat
from base64 import b64decode
from datetime import timedelta
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_interface, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pyrage.x25519 import Identity

Network = IPv4Network | IPv6Network
IPV4_MAPPED = IPv6Network("::ffff:0:0/96")
# RFC 1918, 1122, 3927, 5771; 6890, 2544.
PRIVATE: list[Network] = [
    *map(
        IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3")
    ),
    *map(IPv4Network, ("0.0.0.0/8", "192.0.0.0/24", "198.18.0.0/15")),
    # RFC 4193, 4291, 6666, 3879.
    *map(IPv6Network, ("::/127", "fc00::/7", "fe80::/10", "ff00::/8", "100::/64", "fec0::/10")),
]
# RFC 5737, 3849, 9637.
DOCUMENTATION: list[Network] = [
    *map(IPv4Network, ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")),
    *map(IPv6Network, ("2001:db8::/32", "3fff::/20")),
]
# Addresses in one rule: Hetzner Cloud's documentation of firewalls.
HETZNERS_NETWORKS = 100
# RFC 6598.
SHARED = IPv4Network("100.64.0.0/10")
LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
DOMAIN = re.compile(rf"(?=.{{1,253}}$)({LABEL}\.)+[a-z]([a-z0-9-]{{0,61}}[a-z0-9])?")
WORD = r"[A-Za-z0-9_%+'=~-]+"
EMAIL = re.compile(rf"(?=.{{1,254}}$){WORD}(\.{WORD})*@({LABEL}\.)+[a-z]([a-z0-9-]*[a-z0-9])", re.IGNORECASE | re.ASCII)
URL = re.compile(rf"https://({LABEL}\.)+[a-z][a-z0-9-]*(:(?P<port>[0-9]{{1,5}}))?(/[!-~]*)?")
SERVER_TYPE = re.compile(r"(cx|cpx|ccx|cax)[0-9]{2}")
LOCATION = re.compile(r"[a-z]{3}[0-9]?")
HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
# The units come in this order, each once: github.com/prometheus/common/model.ParseDuration.
DURATION = re.compile("".join(f"([0-9]{{1,9}}{unit})?" for unit in ("y", "w", "d", "h", "m", "s", "ms")))
SECONDS = {"y": 31536000.0, "w": 604800.0, "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
USER = re.compile(r"[a-z][a-z0-9-]{0,61}[a-z0-9]")
TAG = re.compile(r"tag:[a-z][a-z0-9-]*")
# Tokens of Hetzner and Cloudflare, data of keys: parts of names and paths are shorter, or less mixed.
PART = r"[A-Za-z0-9+_=-]"
MIXED = re.compile(
    rf"(?={PART}*[a-z])(?={PART}*[A-Z])(?={PART}*[0-9]){PART}{{30,}}|(?=\d*[a-f])(?=[a-f]*\d)[0-9a-f]{{40,}}"
)
SECRET = re.compile(r"PRIVATE KEY|AGE-SECRET-KEY|AGE-PLUGIN|privkey:|hskey-", re.IGNORECASE | re.ASCII)
# nix takes names of 211 letters in its store: `unit-script-acme-order-renew-NAME-start.drv` is one.
LONGEST_NAME = 172
# The types that an OpenSSH server accepts by default: sshd_config(5), PubkeyAcceptedAlgorithms, without certificates.
KEY_TYPES = (
    *("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa"),
    *("sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"),
)
OPENSSH = re.compile("-----BEGIN OPENSSH PRIVATE KEY-----(.*?)-----END OPENSSH PRIVATE KEY-----", re.DOTALL)


class Rejected(ValueError):
    """A value is wrong: the problem, as the rest of a sentence that begins with the value.

    `repair` says what to do where another value of the key does not help.
    """

    def __init__(self, problem: str, repair: str = "") -> None:
        super().__init__(problem)
        self.repair = repair


class ExtraRecord(NamedTuple):
    """A MagicDNS record beyond the devices' own, in headscale's own shape (`dns.extra_records`)."""

    name: str
    type: str
    value: str


class FormerName(NamedTuple):
    """A name that devices joined by and that is still served, with its Cloudflare zone."""

    name: str
    zone: str


def matches(pattern: re.Pattern[str], what: str, text: str) -> str:
    if not pattern.fullmatch(text):
        raise Rejected(f"is not {what}")
    return text


email = partial(matches, EMAIL, "an e-mail address")
server_type = partial(matches, SERVER_TYPE, "a Hetzner server type such as cx23 or cax11")
location = partial(matches, LOCATION, "a Hetzner location such as nbg1")
user = partial(matches, USER, "a user name of 2 to 63 lower-case letters, digits and dashes, the first a letter")
tag = partial(matches, TAG, "a tag such as tag:server, in lower case")


def domain(text: str) -> str:
    """A domain name as DNS has it."""
    if not text.isascii():
        raise Rejected(f"is not written as DNS has it{_in_ascii(text)}")
    return matches(DOMAIN, "a domain name in lower case, without scheme and port", text)


def _in_ascii(text: str) -> str:
    try:
        return f"; that is {text.encode('idna').decode()}"
    except UnicodeError:
        return ""


def served_name(text: str) -> str:
    """A name that gets a certificate."""
    if len(domain(text)) > LONGEST_NAME:
        raise Rejected(f"has {len(text)} letters; a name on the server may have at most {LONGEST_NAME}")
    return text


def url(text: str) -> str:
    matches(URL, "an https:// address", text)
    port = URL.fullmatch(text)["port"]  # type: ignore[index]
    if port and not 0 < int(port) < 65536:
        raise Rejected("has a port above 65535")
    return text


def host_name(text: str) -> str:
    """A name of a server that Hetzner and NixOS accept: one label of RFC 1123."""
    return matches(HOST_NAME, "a host name of at most 63 letters, digits and dashes", text)


def looks_secret(text: str) -> bool:
    """True where a text is, or contains, a private key, an age identity, a token or a pre-auth key."""
    try:
        return not public_key(text)
    except Rejected:
        return bool(SECRET.search(text) or MIXED.search(text))


def serial(text: str) -> str:
    """A text that changes; Pulumi keeps it in clear."""
    if not text or len(text) > 100 or looks_secret(text):
        raise Rejected("is not a short text that changes, such as the time of day")
    return text


def has_control_characters(text: str) -> bool:
    return any(ord(letter) < 32 or ord(letter) == 127 for letter in text)


def is_subdomain(name: str, parent: str) -> bool:
    """True also where the name is the parent itself."""
    return name == parent or name.endswith(f".{parent}")


def reachable_network(text: str) -> Network:
    """A network whose addresses can reach a server on the internet."""
    if "%" in text:
        raise Rejected("names an interface of one machine; a network has an address and a length alone")
    parsed = network(text)
    if isinstance(parsed, IPv6Network) and parsed.subnet_of(IPV4_MAPPED):
        mapped = IPv4Network((int(parsed.network_address) & 0xFFFFFFFF, parsed.prefixlen - 96))
        raise Rejected(f"is an IPv4 network written as IPv6, which matches no client; write {mapped}")
    if any(_part_of(parsed, private) for private in PRIVATE):
        raise Rejected("is a private network: a server on the internet never sees its addresses")
    return parsed


def unlikely_network(network: Network) -> str:
    """The reason why clients hardly come from this network; empty where they may."""
    if any(_part_of(network, examples) for examples in DOCUMENTATION):
        return "is reserved for examples in documentation"
    if _part_of(network, SHARED):
        return "is used inside providers' networks and by Tailscale: the server sees other addresses"
    return ""


def _part_of(network: Network, other: Network) -> bool:
    return network.version == other.version and network.subnet_of(other)  # type: ignore[arg-type]


def network(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError:
        pass
    try:
        covering = ip_interface(text).network
    except ValueError:
        raise Rejected("is not a network such as 203.0.113.0/24") from None
    raise Rejected(f"has host bits set; the network is {covering}")


def duration(text: str) -> str:
    """A duration as headscale reads it, between a minute and a hundred years."""
    if not text or not DURATION.fullmatch(text):
        raise Rejected("is not a duration such as 24h, 30d or 1h30m")
    seconds = sum(int(number) * SECONDS[unit] for number, unit in re.findall(r"([0-9]+)(ms|[a-z])", text))
    if not 60 <= seconds <= timedelta(days=36500).total_seconds():
        raise Rejected("is not between a minute and a hundred years")
    return text


def extra_record(text: str) -> ExtraRecord:
    name, _, address = text.partition(" ")
    domain(name)
    try:
        version = ip_address(address.strip()).version
    except ValueError:
        raise Rejected('is not of the form "NAME ADDRESS"') from None
    if "%" in address:
        raise Rejected("names an interface of one machine; write the address alone")
    return ExtraRecord(name, "AAAA" if version == 6 else "A", str(ip_address(address.strip())))


def former_name(text: str) -> FormerName:
    """A former name; its zone is empty where the text leaves it out."""
    name, _, zone = text.partition(" ")
    return FormerName(served_name(name), zone and domain(zone.strip()))


def public_key(line: str) -> str:
    """A line for authorized_keys, TYPE KEY COMMENT, of a type that today's sshd takes."""
    words = line.split(maxsplit=2)
    if len(words) > 1 and words[0] not in KEY_TYPES and any(word in KEY_TYPES for word in line.split()):
        raise Rejected("begins with options of authorized_keys, which are not possible here: TYPE KEY COMMENT")
    if len(words) < 2 or words[0] not in KEY_TYPES:
        raise Rejected("is not a public SSH key such as `ssh-ed25519 AAAA... me`, of a type that sshd takes")
    if not _is_key(*words[:2]):
        raise Rejected("is not a public SSH key such as `ssh-ed25519 AAAA... me`: its second word is not a whole key")
    return " ".join(words)


def _is_key(kind: str, data: str) -> bool:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        blob = b64decode(data, validate=True)
        if kind.startswith("sk-"):
            # cryptography does not know keys of hardware; they begin like any other.
            return blob.startswith(len(kind).to_bytes(4, "big") + kind.encode()) and len(blob) > len(kind) + 40
        serialization.load_ssh_public_key(f"{kind} {data}".encode())
    except (ValueError, UnsupportedAlgorithm):
        return False
    return True


def openssh_form(text: str) -> str:
    """The private key in a text as OpenSSH reads it: markers and data on lines of their own, ended by line feeds.

    Text of another form is left as it is, for `private_key` to refuse.
    """
    key = OPENSSH.search(text)
    lines = key[1].split() if key else []
    marks = ("-----BEGIN OPENSSH PRIVATE KEY-----", "-----END OPENSSH PRIVATE KEY-----")
    return "\n".join([marks[0], *lines, marks[1], ""]) if key else text


def private_key(text: str) -> str:
    """The public line ("ssh-ed25519 AAAA...") of an ed25519 key in OpenSSH form without a passphrase."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    try:
        key = serialization.load_ssh_private_key(openssh_form(text).encode(), password=None)
    except TypeError:
        raise Rejected("has a passphrase, which cannot be typed here; use a key without one") from None
    except (ValueError, UnsupportedAlgorithm, UnicodeError):
        raise Rejected("is not a private key in OpenSSH form, as `ssh-keygen -t ed25519` makes it") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise Rejected("is not an ed25519 key")
    form = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    return key.public_key().public_bytes(*form).decode()


def age_identity(text: str) -> "Identity":
    """An age identity, whose `to_public` is the recipient ("age1...")."""
    from pyrage import IdentityError, x25519

    try:
        return x25519.Identity.from_str(text.strip())
    except IdentityError:
        raise Rejected("is not an age identity, AGE-SECRET-KEY-1...") from None


def file(text: str, most: int = 1 << 20) -> Path:
    """A file that can be read, of at most so many bytes."""
    path = Path(text)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            raise Rejected("is not a file but a device, a pipe or a socket")
        if status.st_size > most:
            raise Rejected(f"has {status.st_size} bytes; no file of its kind has more than {most}")
        path.read_bytes()
    except OSError as error:
        raise Rejected(f"cannot be read: {error.strerror}") from None
    return path
