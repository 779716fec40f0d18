"""The stack's configuration, read once and checked before anything is created.

Keys, types and defaults are declared in Pulumi.yaml; the meaning of an empty default is decided here, the form of
each value in rules.py and sops.py. Plain values of secrets are read here, to check them, and nowhere else.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from shlex import quote
from typing import Any, TypeVar

import pulumi
import yaml
from pulumi.runtime.config import CONFIG, get_config_env, is_config_secret

import policy
import rules
import sops
import tokens
from components import pins
from components.ending import Refusal
from components.headscale import PreauthKey
from components.names import Names
from components.ssh import KeyPair, ServerKeys

T = TypeVar("T")
DECLARED = yaml.safe_load((Path(__file__).parent / "Pulumi.yaml").read_text())["config"]
SECRETS = {"formerDeployKey", "factsKey", *(key for key, entry in DECLARED.items() if entry.get("secret"))}


class ConfigError(Refusal):
    """The configuration holds mistakes: for each the key, the value found and what to write instead."""


@dataclass(frozen=True, kw_only=True)
class StackConfig:
    """Everything an operator can set, complete and valid."""

    server_name: str
    zone: str
    names: Names
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
    pins_max_age_days: int
    protect: bool
    host_facts: bool
    facts_key: str
    ssh_keys: ServerKeys
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
        """Warnings of values that are valid and probably a mistake."""
        if old := pins.warning(self.pins_max_age_days):
            yield old
        for key, networks in (("adminNetworks", self.admin_networks), ("uiAllowedNetworks", self.ui_allowed_networks)):
            for network in networks:
                if why := rules.unlikely_network(network):
                    yield f"headscale:{key}: {network} {why}"
        base = self.names.base_domain
        for record in self.extra_records:
            if not rules.is_subdomain(record.name, base):
                yield (
                    f"headscale:extraRecords: {record.name} is outside {base}: macOS, iOS, Windows and "
                    "systemd-resolved ask MagicDNS for names below that domain alone"
                )

    @property
    def headscale_url(self) -> str:
        return f"https://{self.names.headscale}"

    @property
    def ui_url(self) -> str:
        return f"https://{self.names.ui}/web/"

    @property
    def system(self) -> str:
        """The Nix system of the server type: Hetzner's arm64 types are those called cax."""
        return "aarch64-linux" if self.server_type.startswith("cax") else "x86_64-linux"

    def deployment(
        self, ipv4: pulumi.Input[str], ipv6: pulumi.Input[str], names: pulumi.Output[dict[str, Any]]
    ) -> pulumi.Output[dict[str, Any]]:
        """The data that Nix gets, shaped like nix/deployment.json; nothing in it is secret.

        The addresses and names come from the cloud, so that no server is configured before both exist.
        """
        settings = {
            "system": self.system,
            "hostName": self.server_name,
            "authorizedKeys": [self.ssh_keys.deploy_key.public, *self.authorized_keys],
            "factsKeys": [self.facts_key] if self.facts_key else [],
            # On the host they are exempt from bans and limits, which everybody must not be.
            "adminNetworks": [str(network) for network in self.admin_networks if network.prefixlen],
            "uiAllowedNetworks": [str(network) for network in self.ui_allowed_networks],
            "acmeEmail": self.acme_email,
            "acmeServer": self.acme_server,
            "extraRecords": [record._asdict() for record in self.extra_records],
        }
        return pulumi.Output.all(names=names, ipv4=ipv4, ipv6=ipv6).apply(
            lambda cloud: cloud.pop("names") | cloud | settings
        )


class _Reader:
    """Reads typed values and collects their mistakes, so that all are told at once.

    `unsound` are the keys with a mistake: their values are not compared with others.
    """

    def __init__(self, config: pulumi.Config) -> None:
        self.config = config
        self.mistakes: list[str] = []
        self.unsound: set[str] = set()

    def stack_config(self) -> StackConfig:
        self.no_unknown_keys()
        self.tokens()
        domain = self.read("domain", rules.domain)
        zone = self.read("zone", rules.domain, default=domain or None)
        identity = self.read("hostAgeKey", rules.age_identity, missing=None)
        config = StackConfig(
            server_name=self.server_name(),
            zone=zone,
            names=self.names(domain, zone),
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
                serial=self.read("preauthKeySerial", rules.serial),
            ),
            policy_file=self.read("policyFile", lambda text: policy.checked(rules.file(text))),
            secrets_file=self.read(
                "secretsFile",
                lambda text: sops.checked(Path(text), identity),
                default=f"nix/secrets/{pulumi.get_stack()}.yaml",
            ),
            pins_max_age_days=self.config.require_int("pinsMaxAgeDays"),
            protect=self.config.require_bool("protect"),
            host_facts=self.host_facts(),
            facts_key=self.key_pair("factsKey").public if self.config.get("factsKey") else "",
            ssh_keys=self.ssh_keys(),
            host_age_key=self.config.require_secret("hostAgeKey"),
        )
        self.fit_together(config)
        if self.mistakes:
            raise ConfigError("\n  ".join(["the configuration cannot be used:", *self.mistakes]))
        return config

    def host_facts(self) -> bool:
        """True where the server is asked; only a preview can do without."""
        facts = self.config.require_bool("hostFacts")
        if not facts and not pulumi.runtime.is_dry_run():
            problem, repair = (
                "is for previews: `pulumi up` has to ask the server",
                "`pulumi config rm headscale:hostFacts`",
            )
            self.wrong("hostFacts", False, problem, repair)
        return facts

    def tokens(self) -> None:
        """Check that the clouds' tokens are set: otherwise the providers end the run, before any look-up."""
        try:
            tokens.hetzner(_of_provider)
        except rules.Rejected as problem:
            self.mistakes.append(f"HCLOUD_TOKEN {problem}; {problem.repair}")
        try:
            tokens.cloudflare(_of_provider, self.config.get("zone") or self.config.get("domain"))
        except rules.Rejected as problem:
            self.mistakes.append(f"CLOUDFLARE_API_TOKEN {problem}; {problem.repair}")

    def server_name(self) -> str:
        stack = pulumi.get_stack()
        try:
            return rules.host_name(f"{stack}-headscale")
        except rules.Rejected as problem:
            self.mistakes.append(
                f"the stack's name {stack} makes the server's {stack}-headscale, which {problem}; "
                "`pulumi stack rename NAME` gives another, and the SOPS file follows it: nix/secrets/NAME.yaml"
            )
            return ""

    def names(self, domain: str, zone: str) -> Names:
        def default(label: str) -> str | None:
            return f"{label}.{domain}" if domain else None

        former = self.read_list("formerHeadscaleNames", rules.former_name)
        return Names(
            headscale=self.read("headscaleName", rules.served_name, default("headscale")),
            former=[name._replace(zone=name.zone or zone) for name in former],
            ui=self.read("uiName", rules.served_name, default("headscale-ui")),
            base_domain=self.read("baseDomain", rules.domain, default("ts")),
        )

    def fit_together(self, config: StackConfig) -> None:
        self.names_fit(config.names, config.zone)
        for index, record in enumerate(config.extra_records):
            if record.name in config.names.served:
                self.wrong(f"extraRecords[{index}]", record.name, "is a name of this server: devices would not find it")
        if len(config.admin_networks) > rules.HETZNERS_NETWORKS:
            most = f"names {len(config.admin_networks)} networks; Hetzner's firewall takes {rules.HETZNERS_NETWORKS}"
            repair = "`pulumi config rm headscale:adminNetworks` starts again; put neighbours into one network"
            self.wrong("adminNetworks", None, most, repair)
        if not config.users and self.sound("users"):
            self.wrong(
                "users", [], "must name at least one user", "`pulumi config rm headscale:users` makes it [admin]"
            )
        for index, tag in enumerate(config.preauth_key.tags):
            if self.sound("policyFile") and tag not in policy.tag_owners(config.policy_file):
                self.wrong(f"preauthKeyTags[{index}]", tag, f"is not among the tagOwners of {config.policy_file}")
        logins = {" ".join(key.split()[:2]) for key in (config.ssh_keys.deploy_key.public, *config.authorized_keys)}
        if config.facts_key and " ".join(config.facts_key.split()[:2]) in logins:
            another = "`pulumi config rm headscale:factsKey && scripts/init` makes another"
            self.wrong("factsKey", None, "logs in as root, too", another)
        keys = config.ssh_keys
        if keys.deploy_key.public and keys.deploy_key.public == keys.host_key.public:
            self.wrong("sshHostKey", None, "is the deploy key as well; `ssh-keygen -t ed25519` makes another")

    def names_fit(self, names: Names, zone: str) -> None:
        for key, name in (("headscaleName", names.headscale), ("uiName", names.ui)):
            if self.sound(key, "zone") and not rules.is_subdomain(name, zone):
                self.wrong(key, name, f"is not in the zone {zone}; headscale:zone names another")
            if self.sound(key, "baseDomain") and rules.is_subdomain(name, names.base_domain):
                self.wrong("baseDomain", names.base_domain, f"must not be {name} or a parent of it")
        for index, (name, its_zone) in enumerate(names.former):
            self.former_name_fits(f"formerHeadscaleNames[{index}]", name, its_zone, names)
        if self.sound("headscaleName", "uiName") and names.headscale == names.ui:
            self.wrong("uiName", names.ui, "is headscale's name as well")

    def former_name_fits(self, key: str, name: str, zone: str, names: Names) -> None:
        if self.sound("zone") and not rules.is_subdomain(name, zone):
            self.wrong(key, name, f"is not in the zone {zone}; '{name} ZONE' names another")
        if name in (names.headscale, names.ui):
            self.wrong(key, name, "is a current name as well")
        if self.sound("baseDomain") and rules.is_subdomain(name, names.base_domain):
            self.wrong("baseDomain", names.base_domain, f"must not be {name} or a parent of it")

    def sound(self, *keys: str) -> bool:
        return not self.unsound.intersection(keys)

    def no_unknown_keys(self) -> None:
        present = {
            key.partition(":")[2] for key in {**get_config_env(), **CONFIG.get()} if key.startswith("headscale:")
        }
        for key in sorted(present - set(DECLARED)):
            near = get_close_matches(key, DECLARED, n=1)
            meant = f"; did you mean headscale:{near[0]}?" if near else ";"
            name = "..." if rules.looks_secret(key) else key
            self.mistakes.append(f"unknown key headscale:{name}{meant} `pulumi config rm headscale:{name}` removes it")

    def read(self, key: str, rule: Callable[[str], T], default: str | None = "", missing: T | str = "") -> T:
        """The value of a key as `rule` has it; after a mistake, `missing` in its place.

        A default of None means that it is unknown, because of a mistake in another key.
        """
        value = self.config.get(key) or default
        if value is None:
            self.unsound.add(key)
            return missing  # type: ignore[return-value]
        try:
            return rule(value if key in SECRETS else _one_line(value))
        except rules.Rejected as problem:
            self.wrong(key, None if key in SECRETS else value, str(problem), problem.repair)
            return missing  # type: ignore[return-value]

    def read_list(self, key: str, rule: Callable[[str], T]) -> tuple[T, ...]:
        parsed: list[T] = []
        texts: dict[T, str] = {}
        for index, value in enumerate(self.config.require_object(key)):
            try:
                parsed.append(rule(_one_line(value)))
                texts[parsed[-1]] = value
            except rules.Rejected as problem:
                self.wrong(f"{key}[{index}]", value, str(problem))
        for item in texts:
            if parsed.count(item) > 1:
                self.wrong(key, texts[item], "is listed twice", f"`pulumi config rm --path 'headscale:{key}[...]'`")
        return tuple(parsed)

    def ssh_keys(self) -> ServerKeys:
        former = self.key_pair("formerDeployKey") if self.config.get("formerDeployKey") else None
        return ServerKeys(
            deploy_key=self.key_pair("deployKey"),
            host_key=self.key_pair("sshHostKey"),
            former_deploy_key=former and former.private,
            former_host_key=self.read("formerSshHostKey", lambda line: line and rules.public_key(line)) or None,
        )

    def key_pair(self, key: str) -> KeyPair:
        if not is_config_secret(self.config.full_key(key)):
            clear = "is in clear in the stack's configuration: consider it known to others"
            self.wrong(key, None, clear, f"`pulumi config rm headscale:{key}` removes it; use another key in its place")
        # `pulumi config set` drops the last newline, and OpenSSH does not read a key without it.
        private = self.config.require_secret(key).apply(rules.openssh_form)
        return KeyPair(private, self.read(key, rules.private_key))

    def wrong(self, key: str, value: object, problem: str, repair: str = "") -> None:
        """Collect a mistake, with the value where that is not a secret."""
        base = key.partition("[")[0]
        self.unsound.add(base)
        text = "" if value is None else str(value)
        flag = "--secret " if base in SECRETS else "--path " if "[" in key else ""
        repair = repair or f"`pulumi config set {flag}{quote(f'headscale:{key}')} ...`"
        if rules.looks_secret(text):
            # Another message about a value may repeat it.
            problem = "has a value that looks like a secret, which is not quoted, and that this key does not take"
            value, repair = (
                None,
                f"`pulumi config rm headscale:{base}` removes it; it was in clear: use another secret",
            )
        quoted = "" if value is None else f"{value!r} " if len(text) < 100 else f"{text[:80]!r}... "
        self.mistakes.append(f"headscale:{key}: {quoted}{problem}; {repair}")


def _one_line(value: str) -> str:
    if not isinstance(value, str):
        raise rules.Rejected("is not a text")
    if rules.has_control_characters(value):
        raise rules.Rejected("has a line break or another control character in it")
    return value


def _of_provider(key: str) -> str | None:
    provider, _, name = key.partition(":")
    return pulumi.Config(provider).get(name)
