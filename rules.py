"""What a configuration value must be like; each function returns the value parsed, or raises Rejected.

Sources: Hetzner's names (docs.hetzner.cloud), headscale 0.29 (hscontrol/types/config.go, Prometheus durations, the
policy's syntax), DNS (RFC 1035). Nothing here asks a cloud or reads a configuration.
"""

import json
import re
from datetime import timedelta
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_interface, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pyrage.x25519 import Identity

Network = IPv4Network | IPv6Network
IPV4_MAPPED = IPv6Network("::ffff:0:0/96")
# RFC 1918, 1122, 3927, 5771, 4193, 4291.
PRIVATE: list[Network] = [
    *map(
        IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3")
    ),
    *map(IPv6Network, ("::1/128", "fc00::/7", "fe80::/10", "ff00::/8")),
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
DOMAIN = re.compile(rf"(?=.{{1,253}}$)({LABEL}\.)+[a-z]([a-z0-9-]*[a-z0-9])?")
EMAIL = re.compile(rf"[A-Za-z0-9._%+-]+@(?P<domain>({LABEL}\.)+[a-z]+)", re.IGNORECASE)
URL = re.compile(rf"https://({LABEL}\.)+[a-z][a-z0-9-]*(:\d+)?(/[!-~]*)?")
SERVER_TYPE = re.compile(r"(cx|cpx|ccx|cax)\d\d")
LOCATION = re.compile(r"[a-z]{3}\d?")
# The units come in this order, each once: github.com/prometheus/common/model.ParseDuration.
DURATION = re.compile(r"(\d+y)?(\d+w)?(\d+d)?(\d+h)?(\d+m)?(\d+s)?(\d+ms)?")
SECONDS = {"y": 31536000.0, "w": 604800.0, "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
USER = re.compile(r"[a-z][a-z0-9-]{0,61}[a-z0-9]")
TAG = re.compile(r"tag:[a-z][a-z0-9-]*")
POLICY_FIELDS = {
    *("groups", "hosts", "tagOwners", "acls", "grants", "ssh", "autoApprovers", "nodeAttrs", "tests", "sshTests"),
}
STRING_OR_COMMENT = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
STRING_OR_LAST_COMMA = re.compile(r'("(?:\\.|[^"\\])*")|,(?=\s*[}\]])')


class Rejected(ValueError):
    """What is wrong with a value, as the rest of a sentence that began with the value.

    `repair` says what to do where another value of the key is not the answer.
    """

    def __init__(self, problem: str, repair: str = "") -> None:
        super().__init__(problem)
        self.repair = repair


class ExtraRecord(NamedTuple):
    """A MagicDNS record beyond the devices' own, in headscale's own shape (`dns.extra_records`)."""

    name: str
    type: str
    value: str


def matches(pattern: re.Pattern[str], what: str, text: str) -> str:
    if not pattern.fullmatch(text):
        raise Rejected(f"is not {what}")
    return text


domain = partial(matches, DOMAIN, "a domain name in lower case, without scheme and port")
email = partial(matches, EMAIL, "an e-mail address")
url = partial(matches, URL, "an https:// address")
server_type = partial(matches, SERVER_TYPE, "a Hetzner server type such as cx23 or cax11")
location = partial(matches, LOCATION, "a Hetzner location such as nbg1")
user = partial(matches, USER, "a user name of 2 to 63 lower-case letters, digits and dashes, the first a letter")

tag = partial(matches, TAG, "a tag such as tag:server, in lower case")


def inside(name: str, parent: str) -> bool:
    return name == parent or name.endswith(f".{parent}")


def reachable_network(text: str) -> Network:
    """A network from which somebody can reach a server on the internet."""
    if "%" in text:
        raise Rejected("names an interface of one machine; a network has an address and a length alone")
    found = network(text)
    if isinstance(found, IPv6Network) and found.subnet_of(IPV4_MAPPED):
        mapped = IPv4Network((int(found.network_address) & 0xFFFFFFFF, found.prefixlen - 96))
        raise Rejected(f"is an IPv4 network written as IPv6, which matches nobody; write {mapped}")
    if any(_part_of(found, private) for private in PRIVATE):
        raise Rejected("is a private network: nobody comes to a server on the internet from it")
    return found


def unlikely_network(network: Network) -> str:
    """Why probably nobody comes from this network; empty where somebody may."""
    if any(_part_of(network, examples) for examples in DOCUMENTATION):
        return "is reserved for examples in documentation"
    if _part_of(network, SHARED):
        return "is of addresses that providers, and Tailscale, use inside: the server sees others in their place"
    return ""


def _part_of(network: Network, other: Network) -> bool:
    return network.version == other.version and network.subnet_of(other)  # type: ignore[arg-type]


def network(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError:
        pass
    try:
        found = ip_interface(text).network
    except ValueError:
        raise Rejected("is not a network such as 203.0.113.0/24") from None
    raise Rejected(f"has host bits set; the network is {found}")


def duration(text: str) -> str:
    """A duration as headscale reads it, longer than nothing and not longer than its clock can count."""
    if not text or not DURATION.fullmatch(text):
        raise Rejected("is not a duration such as 24h, 30d or 1h30m")
    seconds = sum(int(number) * SECONDS[unit] for number, unit in re.findall(r"(\d+)(ms|[a-z])", text))
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
    return ExtraRecord(name, "AAAA" if version == 6 else "A", str(ip_address(address.strip())))


def public_key(line: str) -> str:
    """A line for authorized_keys, of a type that today's sshd takes."""
    from cryptography.hazmat.primitives import serialization

    if line.startswith(("ssh-dss", "-----BEGIN")):
        raise Rejected("is not a public SSH key of a type that sshd takes; ed25519 is one")
    try:
        serialization.load_ssh_public_key(line.encode())
    except ValueError as error:
        raise Rejected(f"is not a public SSH key such as `ssh-ed25519 AAAA... me`: {error}") from None
    return line


def private_key(text: str) -> str:
    """The public line ("ssh-ed25519 AAAA...") of an ed25519 key in OpenSSH form without a passphrase."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    try:
        key = serialization.load_ssh_private_key(text.encode(), password=None)
    except TypeError:
        raise Rejected("has a passphrase, and nobody is there to type it") from None
    except (ValueError, UnsupportedAlgorithm):
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


def file(text: str) -> Path:
    path = Path(text)
    try:
        path.read_bytes()
    except OSError as error:
        raise Rejected(f"cannot be read: {error.strerror}") from None
    return path


def policy(path: Path) -> Path:
    """A policy that headscale can read; what it means is for `headscale policy check` on the server."""
    try:
        held = json.loads(_plain_json(path.read_text()))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise Rejected(f"is not HuJSON: {error}") from None
    if not isinstance(held, dict):
        raise Rejected("is not an object")
    if unknown := set(held) - POLICY_FIELDS:
        raise Rejected(f"has fields that headscale does not know: {', '.join(sorted(unknown))}")
    if not isinstance(held.get("tagOwners", {}), dict):
        raise Rejected("has tagOwners that are no object")
    for rule in held.get("acls", []):
        _acl(rule)
    return path


def tag_owners(path: Path) -> dict[str, list[str]]:
    """Who may give which tag, as a policy that passed `policy` says."""
    owners: dict[str, list[str]] = json.loads(_plain_json(path.read_text())).get("tagOwners", {})
    return owners


def _acl(rule: Any) -> None:
    if not isinstance(rule, dict) or rule.get("action") != "accept":
        raise Rejected(f'has a rule whose action is not "accept": {json.dumps(rule)}')
    for side in ("src", "dst"):
        if not isinstance(rule.get(side), list) or not all(isinstance(name, str) for name in rule[side]):
            raise Rejected(f"has a rule without a list of names as {side}: {json.dumps(rule)}")


def _plain_json(text: str) -> str:
    """HuJSON without what JSON has not: comments, and a comma behind the last of a list."""
    without_comments = STRING_OR_COMMENT.sub(lambda found: found[1] or " ", text)
    return STRING_OR_LAST_COMMA.sub(lambda found: found[1] or "", without_comments)
