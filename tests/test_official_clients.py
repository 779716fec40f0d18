"""Hetzner's and Cloudflare's official Python clients live with the emulators: the usual life, refusals, retries."""

from collections.abc import Iterator
from contextlib import contextmanager

import cloudflare
import pytest
import requests
from emulated import OTHER_KEY, PUBLIC_KEY, TOKEN, Cloud, finish, hetzner, refused
from hcloud import APIException
from hcloud.firewalls import FirewallResource, FirewallRule
from hcloud.servers import ServerCreatePublicNetwork

from rehearsal.emulators.api import serve
from rehearsal.emulators.cloudflare import Cloudflare
from rehearsal.emulators.faults import Fault

ZONE = "0123456789abcdef0123456789abcdef"
RECORDS = f"/zones/{ZONE}/dns_records"
VPN = {"zone_id": ZONE, "name": "vpn.example.org", "type": "A", "content": "203.0.113.10", "ttl": 60}


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """Hetzner; its client retries at once instead of after some seconds."""
    with hetzner() as cloud:
        monkeypatch.setattr(cloud.client._client, "_retry_interval_func", lambda retries: 0)
        yield cloud
    assert cloud.emulator.faults == []


@pytest.fixture
def dns() -> Iterator[Cloudflare]:
    emulator = Cloudflare({"example.org": ZONE}, TOKEN)
    yield emulator
    assert (emulator.unexpected, emulator.faults) == ([], [])


@pytest.fixture
def client(dns: Cloudflare) -> Iterator[cloudflare.Cloudflare]:
    with serve(dns) as url, cloudflare.Cloudflare(api_token=TOKEN, base_url=url) as client:
        yield client


@contextmanager
def refused_by_cloudflare(status: int, code: int) -> Iterator[None]:
    with pytest.raises(cloudflare.APIStatusError) as caught:
        yield
    assert (caught.value.status_code, [error.code for error in caught.value.errors]) == (status, [code])


def statuses(emulator: Cloudflare, method: str) -> list[int]:
    return [call.status for call in emulator.calls if call.method == method]


def test_a_whole_life_at_hetzner(cloud):
    client = cloud.client
    key = client.ssh_keys.create(name="vpn", public_key=PUBLIC_KEY)
    rule = FirewallRule(direction="in", protocol="tcp", port="22", source_ips=["0.0.0.0/0", "::/0"])
    firewall = client.firewalls.create(name="vpn", rules=[rule]).firewall
    ipv4, ipv6 = cloud.primary_ip("ipv4"), cloud.primary_ip("ipv6")
    net = ServerCreatePublicNetwork(ipv4=ipv4, ipv6=ipv6)
    server = cloud.server(ssh_keys=[key], firewalls=[firewall], public_net=net)

    for thing in (key, firewall, ipv4, ipv6, server):
        changed = thing.update(name=f"{thing.name}-2", labels={"stack": "prod"})
        assert (changed.name, changed.labels) == (f"{thing.name}-2", {"stack": "prod"})
    finish(*firewall.set_rules([FirewallRule(direction="in", protocol="icmp", source_ips=["198.51.100.0/24"])]))
    assert [rule.protocol for rule in client.firewalls.get_by_name("vpn-2").rules] == ["icmp"]
    finish(server.power_off())
    lists = (client.ssh_keys, client.firewalls, client.primary_ips, client.servers)
    assert [len(resources.get_all(label_selector="stack=prod")) for resources in lists] == [1, 1, 2, 1]

    finish(*firewall.remove_from_resources([FirewallResource(type="server", server=server)]), server.delete())
    for thing in (ipv4, ipv6, firewall, key):
        assert thing.delete() is True
    assert cloud.emulator.leftovers() == []


def test_hetzners_refusals_reach_the_client(cloud):
    client = cloud.client
    key = client.ssh_keys.create(name="vpn", public_key=PUBLIC_KEY)
    with refused("uniqueness_error"):
        client.ssh_keys.create(name="vpn", public_key=OTHER_KEY)
    key.delete()
    for lost in (key.delete, key.reload, lambda: key.update(name="other"), lambda: client.servers.get_by_id(1)):
        with refused("not_found"):
            lost()
    server = cloud.server()
    address = client.primary_ips.get_by_id(server.public_net.primary_ipv4.id)
    for thing in (server, address):
        finish(thing.change_protection(delete=True, **({"rebuild": True} if thing is server else {})))
        with refused("protected"):
            thing.delete()


RETRIED = [(429, "rate_limit_exceeded"), (409, "conflict"), (504, "timeout"), (502, None), (504, None)]


@pytest.mark.parametrize(("status", "code"), RETRIED)
def test_hetzners_client_retries_what_passes(cloud, status, code):
    cloud.emulator.fail(Fault("POST /ssh_keys", status=status, code=code, times=2))
    cloud.client.ssh_keys.create(name="vpn", public_key=PUBLIC_KEY)
    assert cloud.emulator.calls == [("POST", "/v1/ssh_keys", output) for output in (status, status, 201)]


def test_hetzners_client_gives_up_after_five_retries(cloud):
    cloud.emulator.fail(Fault("GET /servers", status=429, code="rate_limit_exceeded", times=6))
    with refused("rate_limit_exceeded"):
        cloud.client.servers.get_all()
    assert [call.status for call in cloud.emulator.calls] == [429] * 6


@pytest.mark.parametrize(
    ("status", "code"), [(423, "locked"), (500, "server_error"), (503, "unavailable"), (503, None)]
)
def test_hetzners_client_does_not_retry_anything_else(cloud, status, code):
    cloud.emulator.fail(Fault("GET /servers", status=status, code=code))
    with pytest.raises(APIException) as caught:
        cloud.client.servers.get_all()
    assert (caught.value.code, len(cloud.emulator.calls)) == (code or status, 1)


def test_a_poll_that_fails_does_not_lose_the_action(cloud):
    cloud.machines.power.clear()
    ordered = cloud.order()
    cloud.emulator.fail(Fault("GET /actions*", status=429, code="rate_limit_exceeded", times=2))
    cloud.machines.power.set()
    ordered.action.wait_until_finished()
    assert ordered.action.status == "success"


def test_hetzners_client_repeats_an_order_that_was_not_answered_in_time(cloud):
    """It cannot know that the order was taken, and is then told of its own server."""
    client = cloud.client
    client._client._timeout = 1
    cloud.emulator.fail(Fault("POST /servers", delay=2, after=True))
    with refused("uniqueness_error"):
        cloud.order()
    assert [server.name for server in client.servers.get_all()] == ["vpn"]


@pytest.mark.parametrize(("after", "names"), [(False, []), (True, ["vpn"])])
def test_hetzners_client_does_not_retry_a_dropped_connection(cloud, after, names):
    cloud.emulator.fail(Fault("POST /ssh_keys", drop=True, after=after))
    with pytest.raises(requests.ConnectionError):
        cloud.client.ssh_keys.create(name="vpn", public_key=PUBLIC_KEY)
    assert [key.name for key in cloud.client.ssh_keys.get_all()] == names


def test_a_whole_life_at_cloudflare(client, dns):
    (zone,) = client.zones.list(name="example.org")
    assert (zone.id, client.zones.get(zone_id=ZONE).name) == (ZONE, "example.org")
    records = client.dns.records
    a, aaaa = records.create(**VPN), records.create(**VPN | {"type": "AAAA", "content": "2001:db8:10::1"})
    assert records.get(a.id, zone_id=ZONE).content == "203.0.113.10"
    edited = records.edit(a.id, **VPN | {"content": "203.0.113.11"}, comment="moved")
    assert (edited.content, edited.comment, edited.ttl) == ("203.0.113.11", "moved", 60)
    written = records.update(a.id, **VPN | {"ttl": 1})
    assert (written.id, written.content, written.comment, written.ttl) == (a.id, "203.0.113.10", None, 1)
    assert [r.id for r in records.list(zone_id=ZONE, name={"exact": "vpn.example.org"}, type="AAAA")] == [aaaa.id]
    for record in records.list(zone_id=ZONE):
        assert records.delete(record.id, zone_id=ZONE).id == record.id
    assert dns.leftovers() == []


def test_cloudflares_lists_come_in_pages(client):
    for number in range(7):
        client.dns.records.create(**VPN | {"name": f"vpn-{number}"})
    names = [record.name for record in client.dns.records.list(zone_id=ZONE, per_page=3)]
    assert names == [f"vpn-{number}.example.org" for number in range(7)]


def test_cloudflares_refusals_reach_the_client(client, dns):
    client.dns.records.create(**VPN)
    with refused_by_cloudflare(400, 81058):
        client.dns.records.create(**VPN)
    with refused_by_cloudflare(400, 9005):
        client.dns.records.create(**VPN | {"content": "203.0.113.300"})
    for lost in (client.dns.records.get, client.dns.records.delete):
        with refused_by_cloudflare(404, 81044):
            lost("0" * 32, zone_id=ZONE)
    with pytest.raises(cloudflare.AuthenticationError):
        client.with_options(api_token="guess").zones.list()
    assert len(dns.calls) == 6


def test_cloudflares_client_does_not_retry_what_is_not_modelled(client, dns):
    with refused_by_cloudflare(501, 7000):
        client.dns.records.create(**VPN | {"type": "MX", "content": "mail.example.org"}, priority=10)
    assert statuses(dns, "POST") == [501]
    assert dns.unexpected.pop() == f"POST /client/v4{RECORDS}: field priority"


def test_cloudflares_client_retries_errors_and_dropped_connections(client, dns):
    dns.fail(
        Fault(f"POST {RECORDS}", status=429, code=10429),
        Fault(f"POST {RECORDS}", drop=True),
        Fault(f"DELETE {RECORDS}/*", status=503),
    )
    record = client.dns.records.create(**VPN)
    client.dns.records.delete(record.id, zone_id=ZONE)
    assert statuses(dns, "POST") == [429, 0, 200]
    assert statuses(dns, "DELETE") == [503, 200]
    assert dns.leftovers() == []


def test_cloudflares_client_gives_up_after_two_retries(client, dns):
    dns.fail(Fault("GET /zones", status=500, code=10013, times=3))
    with refused_by_cloudflare(500, 10013):
        client.zones.list()


def test_cloudflares_client_repeats_a_success_that_was_not_reported(client, dns):
    """A record's creation is refused the second time; its deletion is not found."""
    dns.fail(
        Fault(f"POST {RECORDS}", drop=True, after=True),
        Fault(f"DELETE {RECORDS}/*", drop=True, after=True),
    )
    with refused_by_cloudflare(400, 81058):
        client.dns.records.create(**VPN)
    (record,) = client.dns.records.list(zone_id=ZONE)
    with refused_by_cloudflare(404, 81044):
        client.dns.records.delete(record.id, zone_id=ZONE)
    assert dns.leftovers() == []
