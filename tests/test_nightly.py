"""scripts/nightly tells what differs, by resource and fact, and nothing that has to stay at home."""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from emulated import TOKEN, Cloud, hetzner
from hcloud.firewalls.domain import FirewallRule

from components import pins
from components.headscale import warnings
from components.host_facts import HostFacts, UserFacts
from rehearsal import plugins
from rehearsal.emulators.api import serve
from rehearsal.emulators.cloudflare import Cloudflare
from rehearsal.operator.stack import Stack
from rehearsal.stories.drift import OF_HEADSCALE, OF_THE_HOST
from scripts import publishable

ZONE = "0123456789abcdef0123456789abcdef"
PARTS = ("--target", "**::server*", "--target", "**::dns*")
ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+|[0-9a-f]*:[0-9a-f]*:[0-9a-f:]*")
PRIVATE = {
    "a device's unit": "drift: sshd@3-192.0.2.1:22-203.0.113.5:4711.service has failed; the next `pulumi up` re",
    "a file": "drift: /etc/nixos is not what was deployed: alice-203.0.113.5.nix changed; the next",
    "a network": "headscale:adminNetworks: 203.0.113.0/24 is reserved for examples in documentation",
    "a network that is wrong": "  headscale:uiAllowedNetworks[1]: '203.0.113.1/24' has host bits set; the network is",
    "a server": "the server at 203.0.113.5 could not be asked over SSH: alice. The clouds are compared",
    "a server's keys": "asking 203.0.113.5 which of the configured and former SSH keys it accepts: OSError alice",
    "a record": "Cloudflare has a record vpn.example.org A 203.0.113.5 (id 0123456789abcdef) that this stack does not",
    "a leftover": "Hetzner has a server alice (id 42) that this stack does not know, or is to replace. An `up`",
    "headscale's words": "headscale runs and is not healthy: alice at 203.0.113.5; `journalctl --unit headscale`",
    "a policy": "headscale:policyFile: headscale on the server refuses it: no user alice@ 203.0.113.5. `headscale",
    "anything": "alice came from 203.0.113.5\nand AGE-SECRET-KEY-1QQQQ stayed",
    "who is not let in": "headscale:adminNetworks leaves out 203.0.113.5, from which this program reaches the server",
    "an unknown key": "  unknown key headscale:alice; `pulumi config rm headscale:alice` removes it",
}


@pytest.mark.parametrize("message", PRIVATE.values(), ids=PRIVATE)
def test_a_message_is_published_without_what_is_private(message: str):
    published = [*publishable.sentences([f"warning: {message}\n"])]
    assert len(published) == 1
    assert not re.search(r"alice|203\.0\.113|192\.0\.2|0123456789|AGE-SECRET|\b42\b", published[0])


def test_a_mistake_in_the_configuration_is_published_by_its_key():
    mistakes = (
        "error: the configuration cannot be used:\n  headscale:zone: 'alice' is not a domain\n  headscale:users[1]: "
    )
    published = [*publishable.sentences([mistakes])]
    wrong = [f"headscale:{key} has a value that cannot be used" for key in ("zone", "users")]
    assert published == ["the configuration cannot be used", *wrong]


def test_every_fact_of_the_host_that_is_rehearsed_is_published():
    facts = [*OF_HEADSCALE.values(), *OF_THE_HOST.values()]
    published = [*publishable.sentences([f"warning: drift: {fact}; the next `pulumi up` repairs it" for fact in facts])]
    for fact in facts:
        assert any(fact.startswith(text) for text in published), fact
    assert not [text for text in published if "not published" in text]


def test_the_programs_own_warnings_are_published():
    old = pins.warning(1, now=datetime(2099, 1, 1, tzinfo=UTC)) or ""
    states = {"alice": "revoked", "bob": "deleted", "carol": "unknown", "dave": "valid"}
    users = {name: UserFacts(key=1, reason="", state=state, nodes=0) for name, state in states.items()}
    facts = HostFacts(confirmed_digest="", confirmed_token="", deploys_begun=1, seen_from="", users=users)
    published = [*publishable.sentences([old, *warnings(["alice", "bob", "carol"], facts)])]
    assert len(published) == 5
    assert not [text for text in published if "not published" in text or re.search("alice|bob|carol|dave", text)]


def test_a_pre_auth_key_that_ended_as_it_should_is_not_news():
    users = {"alice": UserFacts(key=1, reason="", state="expired", nodes=0)}
    facts = HostFacts(confirmed_digest="", confirmed_token="", deploys_begun=1, seen_from="", users=users)
    (message,) = warnings(["alice"], facts)
    assert [*publishable.sentences([message])] == []


def test_a_resource_is_named_without_the_user():
    names = (
        "server-firewall",
        "dns-headscale.example.org-aaaa",
        "nixos-deploy",
        "headscale-alice-preauth-key",
        "alice",
    )
    published = [publishable.resource(name) for name in names]
    assert published == [*names[:3], "headscale-USER-preauth-key", "a resource"]


@dataclass(frozen=True)
class Emulated:
    """A stack of which the server and the records are there, in an emulated cloud, and its scripts/nightly."""

    stack: Stack
    cloud: Cloud

    def nightly(self, *flags: str, expect: int) -> str:
        output = self.stack.nightly(*flags, expect=expect)
        assert not ADDRESS.search(output), output
        return output


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory, engine: Path) -> Iterator[Emulated]:
    directory = tmp_path_factory.mktemp("nightly")
    home = directory / "home"
    plugins.install(home, Path(sys.executable))
    plugins.install_hcloud(home, engine)
    stack = Stack(directory / "stack", engine, home)
    stack.make_secrets()
    # No client comes from the networks for examples, which a warning tells.
    stack.set("adminNetworks", "9.9.9.9/32", as_list=True)
    with hetzner() as cloud, serve(Cloudflare({"example.org": ZONE}, "token")) as url:
        stack.config("set", "hcloud:endpoint", cloud.url)
        stack.config("set", "cloudflare:baseUrl", url)
        stack.environment |= {"HCLOUD_TOKEN": TOKEN, "CLOUDFLARE_API_TOKEN": "token"}
        stack.flags = PARTS
        stack.up()
        yield Emulated(stack, cloud)


def test_nothing_is_printed_where_all_is_as_configured(emulated: Emulated):
    assert emulated.nightly(*PARTS, expect=0) == ""


def test_a_warning_alone_is_reported_and_no_difference(emulated: Emulated):
    emulated.stack.set("pinsMaxAgeDays", "0")
    output = emulated.nightly(*PARTS, expect=0)
    emulated.stack.unset("pinsMaxAgeDays")
    assert "as configured, with warnings" in output
    assert re.search(r"^- nix/flake.lock pins the NixOS of [\d-]+, \d+ days old$", output, re.MULTILINE)


def test_what_differs_is_named_with_its_properties(emulated: Emulated):
    (firewall,) = emulated.cloud.client.firewalls.get_all()
    firewall.set_rules([FirewallRule(direction="in", protocol="tcp", port="22", source_ips=["203.0.113.7/32"])])
    (server,) = emulated.cloud.client.servers.get_all()
    server.update(labels={"alice": "203.0.113.7"})
    try:
        output = emulated.nightly(*PARTS, expect=7)
    finally:
        emulated.stack.up()
    assert "- update `server-firewall`: rules\n- update `server-server`: labels\n" in output
    assert "alice" not in output
    assert emulated.nightly(*PARTS, expect=0) == ""


def test_a_deploy_that_is_due_is_named_without_its_users(emulated: Emulated):
    emulated.stack.set("users", "alice", "bob", as_list=True)
    output = emulated.nightly(expect=7)
    emulated.stack.unset("users")
    assert "- create `nixos-deploy`\n" in output
    assert "- create `headscale-USER-preauth-key`\n" in output
    assert not re.search("alice|bob", output)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("HCLOUD_TOKEN", "z" * 64, "Hetzner does not accept HCLOUD_TOKEN"),
        ("HCLOUD_TOKEN", "", "HCLOUD_TOKEN is not set"),
        ("CLOUDFLARE_API_TOKEN", "z" * 40, "a cloud does not accept its token: 401 Unauthorized"),
        ("PULUMI_CONFIG_PASSPHRASE", "wrong", "incorrect passphrase"),
    ],
)
def test_what_cannot_be_compared_is_reported_with_the_reason(emulated: Emulated, name: str, value: str, reason: str):
    before = emulated.stack.environment[name]
    emulated.stack.environment[name] = value
    try:
        output = emulated.nightly(*PARTS, expect=1)
    finally:
        emulated.stack.environment[name] = before
    assert "could not be compared with its configuration" in output
    assert f"- {reason}\n" in output
    assert "not published" not in output
    assert not value or value not in output.replace("wrong ", "")
