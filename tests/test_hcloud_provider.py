"""The real engine and the real hcloud provider against the emulated Hetzner cloud."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import PluginsProgram
from emulated import TOKEN, Cloud, hetzner

from rehearsal import plugins
from rehearsal.setup import programs

PROGRAM = Path(__file__).parent / "hcloud_program.py"


@dataclass(frozen=True)
class OrderedServer:
    project: PluginsProgram
    cloud: Cloud

    def set(self, key: str, value: str) -> None:
        self.project.run("config", "set", key, value)

    def preview(self, expect: int = 0) -> str:
        return self.project.preview("--refresh", "--expect-no-changes", expect=expect)

    def orders(self) -> list[str]:
        return [order[0] for order in self.cloud.machines.orders]


@pytest.fixture
def deployment(project: PluginsProgram) -> Iterator[OrderedServer]:
    """The program is up."""
    shutil.copy(PROGRAM, project.directory / "__main__.py")
    plugins.install_hcloud(Path(project.environment["PULUMI_HOME"]), programs.build(print))
    project.environment["HCLOUD_TOKEN"] = TOKEN
    with hetzner() as cloud:
        deployment = OrderedServer(project, cloud)
        deployment.set("hcloud:endpoint", cloud.url)
        project.up()
        yield deployment
        project.run("destroy", "--yes", "--skip-preview")
        assert cloud.emulator.is_empty()


def test_what_is_up_stays_as_it_is(deployment):
    deployment.preview()
    assert deployment.project.outputs() == {
        "ipv4": "203.0.113.10",
        "ipv6": "2001:db8:10::1",
        "network": "2001:db8:10::/64",
    }
    (spec,) = deployment.cloud.machines.specs
    assert (spec.user_data, spec.labels) == ("#cloud-config", {"stack": "test"})
    assert deployment.orders() == ["create", "firewall"]


def test_labels_changed_by_hand_are_seen_and_repaired(deployment):
    client = deployment.cloud.client
    matches = {
        "server": client.servers,
        "key": client.ssh_keys,
        "firewall": client.firewalls,
        "ipv4": client.primary_ips,
    }
    things = [resources.get_all()[0] for resources in matches.values()]
    for thing in things:
        thing.update(labels={"stack": "by-hand"})
    outcome = deployment.preview(expect=7)
    assert all(f"::{name}]" in outcome for name in matches)
    deployment.project.up("--refresh")
    for thing in things:
        thing.reload()
        assert thing.labels == {"stack": "test"}
    deployment.preview()


def test_a_changed_rule_reaches_the_machine_in_place(deployment):
    deployment.set("port", "2222")
    deployment.project.up()
    name, _, rules = deployment.cloud.machines.orders[-1]
    assert (name, [rule.port for rule in rules]) == ("firewall", ["2222"])
    assert deployment.orders() == ["create", "firewall", "firewall"]
    deployment.preview()


def test_a_replaced_server_keeps_its_addresses(deployment):
    before = deployment.project.outputs()
    deployment.set("userData", "#cloud-config\nhostname: new")
    deployment.project.up()
    assert deployment.orders() == ["create", "firewall", "delete", "create", "firewall"]
    assert deployment.project.outputs() == before
    old, new = deployment.cloud.machines.specs
    assert (old.ipv4, old.ipv6) == (new.ipv4, new.ipv6)
    assert new.user_data == "#cloud-config\nhostname: new"
    deployment.preview()


def test_a_machine_that_fails_fails_the_update(deployment):
    deployment.cloud.machines.broken = True
    deployment.set("userData", "#cloud-config\nhostname: new")
    assert "the rack is on fire" in deployment.project.up(expect=1)
    deployment.cloud.machines.broken = False
    deployment.project.up("--refresh")
    deployment.preview()
