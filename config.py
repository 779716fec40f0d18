"""The stack's configuration, read once and checked before anything is created.

Keys, types and defaults are declared in Pulumi.yaml; what an empty default stands for is decided here.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import NamedTuple

import pulumi

Network = IPv4Network | IPv6Network


class ConfigError(pulumi.RunError):
    """The configuration holds mistakes: for each the key, the value found and what to write instead."""


class KeyPair(NamedTuple):
    """An SSH key: the private half secret, the public half as a line for authorized_keys."""

    private: pulumi.Output[str]
    public: pulumi.Output[str]


@dataclass(frozen=True, kw_only=True)
class PreauthKey:
    """What a pre-auth key is made with; a new `serial` makes a new key and expires the old one."""

    expiration: str
    reusable: bool
    serial: str


@dataclass(frozen=True, kw_only=True)
class ExtraRecord:
    """A MagicDNS record beyond the devices' own, in headscale's own shape (`dns.extra_records`)."""

    name: str
    type: str
    value: str

    @staticmethod
    def parse(text: str) -> "ExtraRecord":
        name, address = text.split()
        return ExtraRecord(name=name, type="AAAA" if ip_address(address).version == 6 else "A", value=address)


@dataclass(frozen=True, kw_only=True)
class StackConfig:
    """Everything an operator can set, complete and valid."""

    server_name: str
    zone: str
    headscale_name: str
    ui_name: str
    base_domain: str
    extra_records: tuple[ExtraRecord, ...]
    acme_email: str
    acme_server: str
    server_type: str
    location: str
    admin_networks: tuple[Network, ...]
    ui_allowed_networks: tuple[Network, ...]
    users: tuple[str, ...]
    preauth_key: PreauthKey
    policy_file: Path
    secrets_file: Path
    protect: bool
    deploy_key: KeyPair
    ssh_host_key: KeyPair
    host_age_key: pulumi.Output[str]

    @staticmethod
    def load() -> "StackConfig":
        """Read the stack's configuration; raise ConfigError naming every mistake found."""
        return _Reader(pulumi.Config()).stack_config()

    @property
    def names(self) -> tuple[str, str]:
        return self.headscale_name, self.ui_name

    @property
    def headscale_url(self) -> str:
        return f"https://{self.headscale_name}"

    @property
    def ui_url(self) -> str:
        return f"https://{self.ui_name}/web/"

    @property
    def system(self) -> str:
        """The Nix system of the server type: Hetzner's arm64 types are those called cax."""
        return "aarch64-linux" if self.server_type.startswith("cax") else "x86_64-linux"

    def deployment(
        self,
        ipv4: pulumi.Input[str],
        ipv6: pulumi.Input[str],
        headscale_name: pulumi.Input[str],
        ui_name: pulumi.Input[str],
    ) -> dict[str, pulumi.Input]:
        """The data that Nix gets, shaped like nix/deployment.json; nothing in it is secret.

        The addresses and names come from the cloud, so that no server is configured before both exist.
        """
        return {
            "ipv4": ipv4,
            "ipv6": ipv6,
            "headscaleName": headscale_name,
            "uiName": ui_name,
            "system": self.system,
            "hostName": self.server_name,
            "baseDomain": self.base_domain,
            "authorizedKeys": [self.deploy_key.public],
            "adminNetworks": [str(network) for network in self.admin_networks],
            "uiAllowedNetworks": [str(network) for network in self.ui_allowed_networks],
            "acmeEmail": self.acme_email,
            "acmeServer": self.acme_server,
            "extraRecords": [vars(record) for record in self.extra_records],
            "userNames": list(self.users),
        }


def public_key(private_key: str) -> str:
    """The public line ("ssh-ed25519 AAAA...") of a private key in OpenSSH form without a passphrase."""
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_ssh_private_key(private_key.encode(), password=None).public_key()
    return key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"(?=.{{1,253}}$)({_LABEL}\.)+[a-z][a-z0-9-]*[a-z0-9]")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_DURATION = re.compile(r"(\d+(ms|[smhdwy]))+")
_USER = re.compile(r"[a-z][a-z0-9-]*[a-z0-9]")


class _Reader:
    """Reads typed values and collects what is wrong with them, so that several mistakes are told at once."""

    def __init__(self, config: pulumi.Config) -> None:
        self.config = config
        self.mistakes: list[str] = []

    def stack_config(self) -> StackConfig:
        domain = self.domain("domain")
        headscale_name = self.domain("headscaleName", f"headscale.{domain}")
        base_domain = self.domain("baseDomain", f"ts.{domain}")
        if headscale_name == base_domain or headscale_name.endswith(f".{base_domain}"):
            self.wrong("baseDomain", base_domain, f"must not be {headscale_name} or a parent of it")
        stack = StackConfig(
            server_name=f"{pulumi.get_stack()}-headscale",
            zone=self.domain("zone", domain),
            headscale_name=headscale_name,
            ui_name=self.domain("uiName", f"headscale-ui.{domain}"),
            base_domain=base_domain,
            extra_records=self.parsed_list("extraRecords", ExtraRecord.parse, '"NAME ADDRESS"'),
            acme_email=self.matching("acmeEmail", _EMAIL, "an e-mail address"),
            acme_server=self.matching("acmeServer", re.compile(r"https://\S+"), "an https:// address"),
            server_type=self.matching("serverType", re.compile(r"[a-z]+\d+"), "a server type such as cx23"),
            location=self.matching("location", re.compile(r"[a-z]{3}\d?"), "a location such as nbg1"),
            admin_networks=self.networks("adminNetworks"),
            ui_allowed_networks=self.networks("uiAllowedNetworks"),
            users=self.users(),
            preauth_key=self.preauth_key(),
            policy_file=self.file("policyFile", "nix/policy.hujson"),
            secrets_file=self.file("secretsFile", f"nix/secrets/{pulumi.get_stack()}.yaml"),
            protect=self.config.require_bool("protect"),
            deploy_key=self.key_pair("deployKey"),
            ssh_host_key=self.key_pair("sshHostKey"),
            host_age_key=self.config.require_secret("hostAgeKey"),
        )
        if self.mistakes:
            raise ConfigError("the configuration cannot be used:\n" + "\n".join(f"  {m}" for m in self.mistakes))
        if not stack.admin_networks:
            pulumi.log.warn(
                "headscale:adminNetworks is empty: anyone can reach SSH; "
                "`pulumi config set --path 'headscale:adminNetworks[0]' NETWORK` closes it"
            )
        return stack

    def wrong(self, key: str, value: object, remedy: str) -> None:
        self.mistakes.append(f"headscale:{key}: {value!r} {remedy}; `pulumi config set headscale:{key} ...`")

    def matching(self, key: str, pattern: re.Pattern[str], what: str, default: str = "") -> str:
        value = self.config.get(key) or default
        if not pattern.fullmatch(value):
            self.wrong(key, value, f"is not {what}")
        return value

    def domain(self, key: str, default: str = "") -> str:
        return self.matching(key, _DOMAIN, "a domain name in lower case", default)

    def parsed_list(self, key: str, parse, form: str) -> tuple:
        parsed = []
        for value in self.config.require_object(key):
            try:
                parsed.append(parse(value))
            except ValueError as error:
                self.wrong(key, value, f"is not of the form {form}: {error}")
        return tuple(parsed)

    def networks(self, key: str) -> tuple[Network, ...]:
        return self.parsed_list(key, ip_network, "203.0.113.0/24")

    def users(self) -> tuple[str, ...]:
        users = tuple(self.config.require_object("users"))
        for user in users:
            if not _USER.fullmatch(user):
                self.wrong("users", user, "is not a user name: lower-case letters, digits and dashes")
        if not users or len(set(users)) != len(users):
            self.wrong("users", list(users), "must name at least one user, each once")
        return users

    def key_pair(self, key: str) -> KeyPair:
        # `pulumi config set` drops the last newline, and OpenSSH does not read a key without it.
        private = self.config.require_secret(key).apply(lambda text: text.strip() + "\n")
        return KeyPair(private, pulumi.Output.unsecret(private.apply(public_key)))

    def preauth_key(self) -> PreauthKey:
        return PreauthKey(
            expiration=self.matching("preauthKeyExpiration", _DURATION, "a duration such as 24h or 30d"),
            reusable=self.config.require_bool("preauthKeyReusable"),
            serial=self.config.require("preauthKeySerial"),
        )

    def file(self, key: str, default: str) -> Path:
        path = Path(self.config.get(key) or default)
        if not path.is_file():
            self.wrong(key, str(path), "is not a file")
        return path
