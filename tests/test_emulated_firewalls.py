"""The contract of the emulated Hetzner API: what a firewall says reaches the machines it covers."""

from collections.abc import Iterator

import pytest
from emulated import Cloud, finish, hetzner, refused
from hcloud.firewalls import FirewallResource, FirewallResourceLabelSelector, FirewallRule

from rehearsal.emulators.hetzner import FirewallRule as Rule

SSH = FirewallRule(direction="in", protocol="tcp", port="22", source_ips=["0.0.0.0/0", "::/0"])
SSH_RULE = Rule("in", "tcp", "22", ("0.0.0.0/0", "::/0"))


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with hetzner() as cloud:
        yield cloud


def firewall_orders(cloud: Cloud) -> list[object]:
    return [order[2] for order in cloud.machines.orders if order[0] == "firewall"]


def test_a_firewall_reaches_its_machine_and_so_do_its_changes(cloud):
    firewall = cloud.client.firewalls.create(name="ssh", rules=[SSH]).firewall
    server = cloud.server(firewalls=[firewall])
    https = FirewallRule(direction="in", protocol="tcp", port="any", source_ips=["203.0.113.0/24"])
    finish(*firewall.set_rules([https]))
    finish(*firewall.set_rules([]))
    finish(*firewall.remove_from_resources([FirewallResource(type="server", server=server)]))
    expected = [[SSH_RULE], [Rule("in", "tcp", None, ("203.0.113.0/24",))], [], None]
    assert firewall_orders(cloud) == expected


def test_two_firewalls_let_pass_what_either_does(cloud):
    first = cloud.client.firewalls.create(name="ssh", rules=[SSH]).firewall
    ping = FirewallRule(direction="in", protocol="icmp", source_ips=["::/0"])
    server = cloud.server(firewalls=[first])
    to_server = [FirewallResource(type="server", server=server)]
    second = cloud.client.firewalls.create(name="ping", rules=[ping], resources=to_server)
    finish(*second.actions)
    assert firewall_orders(cloud)[-1] == [SSH_RULE, Rule("in", "icmp", None, ("::/0",))]
    server.reload()
    assert [f.firewall.id for f in server.public_net.firewalls] == [first.id, second.firewall.id]


def test_a_firewall_chooses_servers_by_label(cloud):
    chosen = FirewallResource(
        type="label_selector", label_selector=FirewallResourceLabelSelector(selector="role in (vpn,dns)")
    )
    cloud.client.firewalls.create(name="ssh", rules=[SSH], resources=[chosen])
    server = cloud.server(labels={"role": "vpn"})
    cloud.server("other")
    applied = cloud.client.firewalls.get_by_name("ssh").applied_to
    assert [resource.server.id for resource in applied[0].applied_to_resources] == [server.id]
    server.update(labels={"role": "web"})
    finish(cloud.client.servers.get_by_name("other").reboot())
    assert firewall_orders(cloud) == [[SSH_RULE], None]


def test_a_firewall_in_use_stays(cloud):
    firewall = cloud.client.firewalls.create(name="ssh", rules=[SSH]).firewall
    server = cloud.server(firewalls=[firewall])
    resources = [FirewallResource(type="server", server=server)]
    with refused("resource_in_use"):
        firewall.delete()
    with refused("firewall_already_applied"):
        firewall.apply_to_resources(resources)
    finish(server.delete())
    firewall.delete()


@pytest.mark.parametrize(
    "rule",
    [
        FirewallRule(direction="in", protocol="tcp", port="22", source_ips=["203.0.113.7/24"]),
        FirewallRule(direction="in", protocol="tcp", source_ips=["::/0"]),
        FirewallRule(direction="in", protocol="tcp", port="90-80", source_ips=["::/0"]),
        FirewallRule(direction="in", protocol="icmp", port="22", source_ips=["::/0"]),
        FirewallRule(direction="in", protocol="tcp", port="22"),
        FirewallRule(direction="out", protocol="tcp", port="22", source_ips=["::/0"]),
        FirewallRule(direction="in", protocol="tcp", port="22", source_ips=[f"203.0.{n}.0/24" for n in range(101)]),
    ],
)
def test_a_rule_that_means_nothing_is_refused(cloud, rule):
    with refused("invalid_input"):
        cloud.client.firewalls.create(name="bad", rules=[rule])
