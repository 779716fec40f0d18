"""The stack's configuration, read once and checked before anything is created.

Keys, types and defaults are declared in Pulumi.yaml; what an empty default stands for is decided here, and what a
value must be like in rules.py and sops.py. Plain values of secrets are looked at here, to check them, and nowhere else.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pulumi
import yaml
from pulumi.runtime.config import CONFIG, get_config_env

import rules
import sops
from components.ending import Refusal

T = TypeVar("T")
DECLARED = yaml.safe_load((Path(__file__).parent / "Pulumi.yaml").read_text())["config"]
SECRETS = {"formerDeployKey", *(key for key, entry in DECLARED.items() if entry.get("secret"))}


class ConfigError(Refusal):
    """The configuration holds mistakes: for each the key, the value found and what to write instead."""


class KeyPair(NamedTuple):
    """An SSH key: the private half secret, the public half as a line for authorized_keys."""

    private: pulumi.Output[str]
    public: str


@dataclass(frozen=True, kw_only=True)
class SshKeys:
    """How we log in and what the server shows; of the former keys, which it may still have, what a connection needs."""

    deploy_key: KeyPair
    host_key: KeyPair
    former_deploy_key: pulumi.Output[str] | None
    former_host_key: str | None


@dataclass(frozen=True, kw_only=True)
class PreauthKey:
    """What a pre-auth key is made with; a new `serial` makes a new key and expires the old one."""

    expiration: str
    reusable: bool
    ephemeral: bool
    tags: tuple[str, ...]
    serial: str


@dataclass(frozen=True, kw_only=True)
class StackConfig:
    """Everything an operator can set, complete and valid."""

    server_name: str
    zone: str
    headscale_name: str
    ui_name: str
    base_domain: str
    extra_records: tuple[rules.ExtraRecord, ...]
    acme_email: str
    acme_server: str
    server_type: str
    location: str
    admin_networks: tuple[rules.Network, ...]
    admin_networks_exclude_me: bool
    ui_allowed_networks: tuple[rules.Network, ...]
    authorized_keys: tuple[str, ...]
    users: tuple[str, ...]
    preauth_key: PreauthKey
    policy_file: Path
    secrets_file: Path
    protect: bool
    ssh_keys: SshKeys
    host_age_key: pulumi.Output[str]

    @staticmethod
    def load() -> "StackConfig":
        """Read the stack's configuration; raise ConfigError naming every mistake found."""
        config = _Reader(pulumi.Config()).stack_config()
        if not config.admin_networks:
            pulumi.log.warn(
                "headscale:adminNetworks is empty: anyone can reach SSH; "
                "`pulumi config set --path 'headscale:adminNetworks[0]' NETWORK` closes it"
            )
        for warning in config.warnings():
            pulumi.log.warn(warning)
        return config

    def warnings(self) -> Iterator[str]:
        """What can be used, and is probably a mistake."""
        for key, networks in (("adminNetworks", self.admin_networks), ("uiAllowedNetworks", self.ui_allowed_networks)):
            for network in networks:
                if why := rules.unlikely_network(network):
                    yield f"headscale:{key}: {network} {why}"
        for record in self.extra_records:
            if not rules.inside(record.name, self.base_domain):
                yield (
                    f"headscale:extraRecords: {record.name} is outside {self.base_domain}: macOS, iOS, Windows and "
                    "systemd-resolved ask MagicDNS for names below that domain alone"
                )

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
    ) -> dict[str, pulumi.Input[Any]]:
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
            "authorizedKeys": [self.ssh_keys.deploy_key.public, *self.authorized_keys],
            # On the host they are exempt from bans and limits, which everybody must not be.
            "adminNetworks": [str(network) for network in self.admin_networks if network.prefixlen],
            "uiAllowedNetworks": [str(network) for network in self.ui_allowed_networks],
            "acmeEmail": self.acme_email,
            "acmeServer": self.acme_server,
            "extraRecords": [record._asdict() for record in self.extra_records],
        }


class _Reader:
    """Reads typed values and collects what is wrong with them, so that several mistakes are told at once."""

    def __init__(self, config: pulumi.Config) -> None:
        self.config = config
        self.mistakes: list[str] = []

    def stack_config(self) -> StackConfig:
        self.no_unknown_keys()
        domain = self.read("domain", rules.domain)
        identity = self.read("hostAgeKey", rules.age_identity, missing=None)
        config = StackConfig(
            server_name=f"{pulumi.get_stack()}-headscale",
            zone=self.read("zone", rules.domain, default=domain),
            headscale_name=self.read("headscaleName", rules.domain, default=f"headscale.{domain}"),
            ui_name=self.read("uiName", rules.domain, default=f"headscale-ui.{domain}"),
            base_domain=self.read("baseDomain", rules.domain, default=f"ts.{domain}"),
            extra_records=self.read_list("extraRecords", rules.extra_record),
            acme_email=self.read("acmeEmail", rules.email),
            acme_server=self.read("acmeServer", rules.url),
            server_type=self.read("serverType", rules.server_type),
            location=self.read("location", rules.location),
            admin_networks=self.read_list("adminNetworks", rules.reachable_network),
            admin_networks_exclude_me=self.config.require_bool("adminNetworksExcludeMe"),
            ui_allowed_networks=self.read_list("uiAllowedNetworks", rules.reachable_network),
            authorized_keys=self.read_list("authorizedKeys", rules.public_key),
            users=self.read_list("users", rules.user),
            preauth_key=PreauthKey(
                expiration=self.read("preauthKeyExpiration", rules.duration),
                reusable=self.config.require_bool("preauthKeyReusable"),
                ephemeral=self.config.require_bool("preauthKeyEphemeral"),
                tags=self.read_list("preauthKeyTags", rules.tag),
                serial=self.config.require("preauthKeySerial"),
            ),
            policy_file=self.read("policyFile", lambda text: rules.policy(rules.file(text))),
            secrets_file=self.read(
                "secretsFile",
                lambda text: sops.checked(Path(text), identity),
                default=f"nix/secrets/{pulumi.get_stack()}.yaml",
            ),
            protect=self.config.require_bool("protect"),
            ssh_keys=self.ssh_keys(),
            host_age_key=self.config.require_secret("hostAgeKey"),
        )
        self.fit_together(config)
        if self.mistakes:
            raise ConfigError("\n  ".join(["the configuration cannot be used:", *self.mistakes]))
        return config

    def fit_together(self, config: StackConfig) -> None:
        keys = config.ssh_keys
        for key, name in (("headscaleName", config.headscale_name), ("uiName", config.ui_name)):
            if not rules.inside(name, config.zone):
                self.wrong(key, name, f"is not in the zone {config.zone}; headscale:zone names another")
            if rules.inside(name, config.base_domain):
                self.wrong("baseDomain", config.base_domain, f"must not be {name} or a parent of it")
        if config.headscale_name == config.ui_name:
            self.wrong("uiName", config.ui_name, "is headscale's name as well")
        for index, record in enumerate(config.extra_records):
            if record.name in config.names:
                self.wrong(f"extraRecords[{index}]", record.name, "is a name of this server: devices would not find it")
        if len(config.admin_networks) > rules.HETZNERS_NETWORKS:
            most = f"names {len(config.admin_networks)} networks; Hetzner's firewall takes {rules.HETZNERS_NETWORKS}"
            repair = "`pulumi config rm headscale:adminNetworks` begins anew, with neighbours put into one network"
            self.wrong("adminNetworks", None, most, repair)
        if not config.users:
            self.wrong("users", [], "must name at least one user")
        for index, tag in enumerate(config.preauth_key.tags):
            if config.policy_file and tag not in rules.tag_owners(config.policy_file):
                self.wrong(f"preauthKeyTags[{index}]", tag, f"is not among the tagOwners of {config.policy_file}")
        if keys.deploy_key.public and keys.deploy_key.public == keys.host_key.public:
            self.wrong("sshHostKey", None, "is the deploy key as well; `ssh-keygen -t ed25519` makes another")

    def no_unknown_keys(self) -> None:
        given = {key.partition(":")[2] for key in {**get_config_env(), **CONFIG.get()} if key.startswith("headscale:")}
        for key in sorted(given - set(DECLARED)):
            near = get_close_matches(key, DECLARED, n=1)
            meant = f"; did you mean headscale:{near[0]}?" if near else ""
            self.mistakes.append(f"headscale:{key} is no key of this program{meant} `pulumi config rm headscale:{key}`")

    def read(self, key: str, rule: Callable[[str], T], default: str = "", missing: T | str = "") -> T:
        """The value of a key as `rule` has it; after a mistake, `missing` in its place."""
        value = self.config.get(key) or default
        try:
            return rule(value)
        except rules.Rejected as problem:
            self.wrong(key, None if key in SECRETS else value, str(problem), problem.repair)
            return missing  # type: ignore[return-value]

    def read_list(self, key: str, rule: Callable[[str], T]) -> tuple[T, ...]:
        parsed: list[T] = []
        spelt: dict[T, str] = {}
        values = self.config.require_object(key)
        for index, value in enumerate(values):
            try:
                parsed.append(rule(value))
                spelt[parsed[-1]] = value
            except rules.Rejected as problem:
                self.wrong(f"{key}[{index}]", value, str(problem))
        for value in spelt:
            if parsed.count(value) > 1:
                self.wrong(key, spelt[value], "is listed twice")
        return tuple(parsed)

    def ssh_keys(self) -> SshKeys:
        former = self.key_pair("formerDeployKey") if self.config.get("formerDeployKey") else None
        return SshKeys(
            deploy_key=self.key_pair("deployKey"),
            host_key=self.key_pair("sshHostKey"),
            former_deploy_key=former and former.private,
            former_host_key=self.read("formerSshHostKey", lambda line: line and rules.public_key(line)) or None,
        )

    def key_pair(self, key: str) -> KeyPair:
        # `pulumi config set` drops the last newline, and OpenSSH does not read a key without it.
        private = self.config.require_secret(key).apply(lambda text: text.strip() + "\n")
        return KeyPair(private, self.read(key, rules.private_key))

    def wrong(self, key: str, value: object, problem: str, repair: str = "") -> None:
        found = "" if value is None else f" {value!r}"
        flag = "--secret " if value is None else "--path " if "[" in key else ""
        repair = repair or f"`pulumi config set {flag}headscale:{key} ...`"
        self.mistakes.append(f"headscale:{key}:{found} {problem}; {repair}")
