"""The contract of the emulated Hetzner API: catalog, servers, primary IPs, lists; by its official client."""

import json
from collections.abc import Iterator

import pytest
from emulated import OTHER_KEY, PUBLIC_KEY, Cloud, call, finish, hetzner, refused
from hcloud.actions import Action, ActionFailedException
from hcloud.firewalls import Firewall
from hcloud.images import Image
from hcloud.locations import Location
from hcloud.primary_ips import PrimaryIP
from hcloud.server_types import ServerType
from hcloud.servers import Server, ServerCreatePublicNetwork
from hcloud.ssh_keys import SSHKey

from rehearsal.emulators.hetzner import ServerSpec


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with hetzner() as cloud:
        yield cloud


def test_the_catalog_speaks_todays_dialect(cloud):
    cx23 = cloud.client.server_types.get_by_name("cx23")
    nbg1 = next(offer for offer in cx23.locations if offer.location.name == "nbg1")
    assert (nbg1.available, nbg1.recommended, nbg1.deprecation) == (True, True, None)
    assert cloud.client.server_types.get_by_name("cx22") is None
    assert "datacenter" not in json.dumps(call(f"{cloud.url}/server_types")[2])


def test_an_image_name_means_one_image_per_architecture(cloud):
    x86 = cloud.client.images.get_by_name_and_architecture("debian-13", "x86")
    arm = cloud.client.images.get_by_name_and_architecture("debian-13", "arm")
    assert x86.id != arm.id
    with refused("invalid_input"):
        cloud.order(server_type=ServerType(name="cax11"), image=x86)


def test_a_server_is_created_while_its_action_runs(cloud):
    cloud.machines.power.clear()
    ordered = cloud.order(user_data="#cloud-config")
    assert ordered.action.status == "running"
    assert cloud.client.actions.get_by_id(ordered.action.id).status == "running"
    assert cloud.client.servers.get_by_id(ordered.server.id).status == "initializing"
    cloud.machines.power.set()
    finish(ordered.action, *ordered.next_actions)
    assert cloud.client.servers.get_by_id(ordered.server.id).status == "running"


def test_a_machine_gets_what_was_ordered(cloud):
    key = cloud.client.ssh_keys.create(name="operator", public_key=PUBLIC_KEY)
    ipv4, ipv6 = cloud.primary_ip("ipv4"), cloud.primary_ip("ipv6")
    net = ServerCreatePublicNetwork(ipv4=ipv4, ipv6=ipv6)
    server = cloud.server(ssh_keys=[key], user_data="#cloud-config", public_net=net, labels={"stack": "prod"})
    assert cloud.machines.specs == [
        ServerSpec(
            id=server.id,
            name="vpn",
            image="debian-13",
            server_type="cx23",
            location="nbg1",
            ipv4="203.0.113.10",
            ipv6="2001:db8:10::/64",
            user_data="#cloud-config",
            ssh_keys=(PUBLIC_KEY,),
            labels={"stack": "prod"},
        )
    ]
    assert server.public_net.ipv4.ip == "203.0.113.10"
    assert server.public_net.ipv6.ip == "2001:db8:10::/64"
    assert cloud.client.primary_ips.get_by_id(ipv4.id).assignee_id == server.id


def test_user_data_is_never_shown(cloud):
    server = cloud.server(user_data="canary-5c1f")
    for path in ("servers", f"servers/{server.id}", "actions", f"servers/{server.id}/actions"):
        assert "canary-5c1f" not in json.dumps(call(f"{cloud.url}/{path}")[2])


def test_user_data_has_a_limit(cloud):
    with refused("invalid_input"):
        cloud.order(user_data="x" * (32 * 1024 + 1))


def test_a_machine_that_fails_fails_the_action(cloud):
    cloud.machines.broken = True
    ordered = cloud.order()
    with pytest.raises(ActionFailedException, match="the rack is on fire"):
        finish(ordered.action)


def test_a_server_that_goes_leaves_only_its_primary_ips(cloud):
    primary_ip = cloud.primary_ip("ipv4")
    server = cloud.server(public_net=ServerCreatePublicNetwork(ipv4=primary_ip))
    assert len(cloud.client.primary_ips.get_all()) == 2
    finish(server.delete())
    assert [ip.id for ip in cloud.client.primary_ips.get_all()] == [primary_ip.id]
    primary_ip.reload()
    assert (primary_ip.assignee_id, primary_ip.assignee_type) == (None, "unassigned")
    assert cloud.machines.orders[-1] == ("delete", server.id)
    with refused("not_found"):
        cloud.client.servers.get_by_id(server.id)
    primary_ip.delete()
    assert cloud.emulator.is_empty()


def test_leftovers_are_named(cloud):
    cloud.client.ssh_keys.create(name="operator", public_key=PUBLIC_KEY)
    cloud.server(public_net=ServerCreatePublicNetwork(enable_ipv4=False, enable_ipv6=False))
    assert cloud.emulator.leftovers() == ["server vpn", "ssh_key operator"]


def test_names_are_unique(cloud):
    cloud.client.ssh_keys.create(name="operator", public_key=PUBLIC_KEY)
    cloud.server()
    cloud.primary_ip("ipv4")
    cloud.client.firewalls.create(name="vpn")
    orders = (
        lambda: cloud.order(),
        lambda: cloud.primary_ip("ipv6", "ipv4"),
        lambda: cloud.client.firewalls.create(name="vpn"),
        lambda: cloud.client.ssh_keys.create(name="operator", public_key=OTHER_KEY),
        lambda: cloud.client.ssh_keys.create(name="other", public_key=PUBLIC_KEY),
    )
    for order in orders:
        with refused("uniqueness_error"):
            order()


def test_a_protected_server_stays(cloud):
    server = cloud.server()
    finish(server.change_protection(delete=True, rebuild=True))
    with refused("protected"):
        server.delete()
    with refused("invalid_input"):
        server.change_protection(delete=False)


def test_power_reaches_the_machine(cloud):
    server = cloud.server()
    steps = (("power_off", "off"), ("power_on", "running"), ("reboot", "running"), ("shutdown", "off"))
    for step, status in steps:
        finish(getattr(server, step)())
        server.reload()
        assert server.status == status
    assert [order[0] for order in cloud.machines.orders] == ["create", "off", "on", "reboot", "off"]
    with refused("unsupported_error"):
        server.reboot()


def test_a_server_does_one_thing_at_a_time(cloud):
    cloud.machines.power.clear()
    ordered = cloud.order()
    with refused("locked"):
        ordered.server.power_off()
    cloud.machines.power.set()
    finish(ordered.action)


def test_the_type_changes_only_when_the_server_is_off(cloud):
    server = cloud.server()
    with refused("server_not_stopped"):
        server.change_type(ServerType(name="cx33"), upgrade_disk=False)
    finish(server.power_off())
    finish(server.change_type(ServerType(name="cx33"), upgrade_disk=False))
    server.reload()
    assert (server.server_type.name, server.primary_disk_size, server.status) == ("cx33", 40, "running")


def test_backups_are_a_window_or_none(cloud):
    server = cloud.server()
    finish(server.enable_backup())
    server.reload()
    assert server.backup_window == "22-02"
    finish(server.disable_backup())
    server.reload()
    assert server.backup_window is None


def test_servers_are_offered_by_location(cloud):
    with refused("invalid_input"):
        cloud.order(location=Location(name="ash"))


def test_an_assigned_primary_ip_stays(cloud):
    server = cloud.server()
    ip = cloud.client.primary_ips.get_by_id(server.public_net.primary_ipv4.id)
    with refused("must_be_unassigned"):
        ip.delete()
    with refused("server_not_stopped"):
        ip.unassign()
    finish(server.power_off())
    finish(ip.unassign())
    server.reload()
    assert server.public_net.ipv4 is None
    finish(ip.assign(assignee_id=server.id, assignee_type="server"))
    server.reload()
    assert server.public_net.primary_ipv4.id == ip.id


def test_a_server_takes_only_addresses_that_fit(cloud):
    taken, v6 = cloud.primary_ip("ipv4"), cloud.primary_ip("ipv6")
    elsewhere = cloud.client.primary_ips.create(type="ipv4", name="far", location=Location(name="hel1")).primary_ip
    cloud.server(public_net=ServerCreatePublicNetwork(ipv4=taken))
    with refused("primary_ip_assigned"):
        cloud.order("b", public_net=ServerCreatePublicNetwork(ipv4=taken))
    with refused("primary_ip_version_mismatch"):
        cloud.order("b", public_net=ServerCreatePublicNetwork(ipv4=v6))
    with refused("primary_ip_location_mismatch"):
        cloud.order("b", public_net=ServerCreatePublicNetwork(ipv4=elsewhere))
    assert [server.name for server in cloud.client.servers.get_all()] == ["vpn"]


def test_no_address_is_given_out_twice(cloud):
    first = cloud.primary_ip()
    first.delete()
    assert cloud.primary_ip().ip != first.ip


def test_reverse_names_follow(cloud):
    ip = cloud.primary_ip("ipv6")
    finish(ip.change_dns_ptr(ip="2001:db8:10::1", dns_ptr="vpn.example.org"))
    ip.reload()
    assert ip.dns_ptr == [{"ip": "2001:db8:10::1", "dns_ptr": "vpn.example.org"}]
    with refused("invalid_input"):
        ip.change_dns_ptr(ip="2001:db8:11::1", dns_ptr="vpn.example.org")


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("env", ["a", "b"]),
        ("!env", ["c"]),
        ("env=prod", ["a"]),
        ("env==prod,tier", ["a"]),
        ("env!=prod", ["b", "c"]),
        ("env in (prod, dev)", ["a", "b"]),
        ("env notin (prod,dev)", ["c"]),
        ("env in (prod,dev),!tier", ["b"]),
    ],
)
def test_label_selectors(cloud, selector, names):
    for name, labels in {"a": {"env": "prod", "tier": "1"}, "b": {"env": "dev"}, "c": {}}.items():
        cloud.primary_ip("ipv6", name, labels=labels)
    assert [ip.name for ip in cloud.client.primary_ips.get_all(label_selector=selector)] == names


def test_what_is_not_a_label_selector_is_refused(cloud):
    with refused("invalid_input"):
        cloud.client.servers.get_all(label_selector="env in prod")


def test_lists_come_in_pages_and_by_name(cloud):
    for n in range(53):
        cloud.primary_ip("ipv6", f"ip-{n:02}")
    first = cloud.client.primary_ips.get_list(per_page=50)
    assert len(first.primary_ips) == 50
    paging = first.meta.pagination
    assert (paging.next_page, paging.last_page, paging.total_entries) == (2, 2, 53)
    assert len({ip.id for ip in cloud.client.primary_ips.get_all()}) == 53
    assert cloud.client.primary_ips.get_by_name("ip-07").name == "ip-07"
    assert cloud.client.primary_ips.get_by_name("ip-99") is None


def test_resources_have_all_that_the_client_knows(cloud):
    key = cloud.client.ssh_keys.create(name="operator", public_key=PUBLIC_KEY)
    firewall = cloud.client.firewalls.create(name="ssh").firewall
    cloud.server(ssh_keys=[key], firewalls=[firewall])
    models = {
        "servers": Server,
        "ssh_keys": SSHKey,
        "firewalls": Firewall,
        "primary_ips": PrimaryIP,
        "actions": Action,
        "locations": Location,
        "server_types": ServerType,
        "images": Image,
    }
    for kind, model in models.items():
        (output, *_) = call(f"{cloud.url}/{kind}")[2][kind]
        assert set(model.__api_properties__) <= set(output), kind


def test_an_update_changes_what_it_says(cloud):
    key = cloud.client.ssh_keys.create(name="operator", public_key=PUBLIC_KEY, labels={"a": "1"})
    assert key.update(name="admin").labels == {"a": "1"}
    assert key.update(labels={}).name == "admin"
    with refused("invalid_input"):
        key.update(labels={"a": "not a label!"})


def test_actions_are_polled_together(cloud):
    server = cloud.server()
    ids = [action.id for action in cloud.client.servers.actions.get_all()]
    query = "&".join(f"id={id}" for id in ids)
    answer = call(f"{cloud.url}/actions?{query}&page=1&sort=status&sort=id")[2]
    assert [action["id"] for action in answer["actions"]] == ids
    assert [action.command for action in server.get_actions()] == ["create_server", "start_server"]
