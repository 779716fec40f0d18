"""The base of the emulated clouds, and the contract of Cloudflare's, over real HTTP."""

import http.client
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest
from emulated import PUBLIC_KEY, TOKEN, Cloud, call, hetzner

from rehearsal.emulators.api import serve
from rehearsal.emulators.cloudflare import Cloudflare, Record

ZONE = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with hetzner() as cloud:
        yield cloud


def test_a_wrong_token_is_refused_in_the_apis_own_shape(cloud):
    status, _, body = call(f"{cloud.url}/servers", token="guess")
    assert (status, body["error"]["code"]) == (401, "unauthorized")


def test_what_is_not_modelled_is_refused_loudly(cloud):
    assert call(f"{cloud.url}/volumes")[0] == 501
    assert call(f"{cloud.url}/servers?flavour=x")[0] == 200
    cloud.primary_ip()
    assert call(f"{cloud.url}/primary_ips?flavour=x")[2]["error"]["code"] == "not_implemented"
    assert call(f"{cloud.url}/ssh_keys", "POST", {"name": "a", "public_key": PUBLIC_KEY, "colour": 1})[0] == 501
    assert len(cloud.emulator.unexpected) == 3
    cloud.emulator.unexpected.clear()


def test_a_body_that_is_not_json_is_refused(cloud):
    status, _, body = call(f"{cloud.url}/ssh_keys", "POST", "{")
    assert (status, body["error"]["code"]) == (400, "json_error")


def test_requests_are_logged(cloud):
    cloud.client.locations.get_by_name("nbg1")
    assert cloud.emulator.calls == [("GET", "/v1/locations", 200)]


def test_one_connection_serves_many_requests(cloud):
    parts = urlsplit(cloud.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    connection.connect()
    port = connection.sock.getsockname()[1]
    with closing(connection):
        for method, path in (("GET", "/locations"), ("DELETE", "/ssh_keys/9"), ("GET", "/images")):
            connection.request(method, f"{parts.path}{path}", headers={"Authorization": f"Bearer {TOKEN}"})
            connection.getresponse().read()
            assert connection.sock.getsockname()[1] == port


@dataclass(frozen=True)
class Dns:
    emulator: Cloudflare
    url: str
    published: list[list[Record]]

    def call(self, method: str, path: str = "", body: object = None):
        status, _, answer = call(f"{self.url}zones/{ZONE}/dns_records{path}", method, body)
        assert answer["success"] == (status == 200)
        return answer["result"] if status == 200 else (status, answer["errors"][0]["code"])

    def create(self, **fields: object):
        usual = {"name": "vpn.example.org", "type": "A", "content": "203.0.113.10", "ttl": 60}
        return self.call("POST", "", usual | fields)


@pytest.fixture
def dns() -> Iterator[Dns]:
    published: list[list[Record]] = []
    emulator = Cloudflare({"example.org": ZONE}, TOKEN, lambda records: published.append(list(records)))
    with serve(emulator) as url:
        yield Dns(emulator, url, published)
    assert emulator.unexpected == []


def test_a_record_lives_and_the_dns_server_learns_it(dns):
    record = dns.create()
    assert dns.call("GET", f"/{record['id']}") == record
    changed = dns.call("PATCH", f"/{record['id']}", {"content": "203.0.113.11"})
    assert (changed["content"], changed["ttl"]) == ("203.0.113.11", 60)
    assert dns.emulator.leftovers() == ["A vpn.example.org"]
    assert dns.call("DELETE", f"/{record['id']}") == {"id": record["id"]}
    contents = [[r.content for r in records] for records in dns.published]
    assert contents == [["203.0.113.10"], ["203.0.113.11"], []]
    assert dns.emulator.leftovers() == []


def test_put_forgets_what_it_does_not_say(dns):
    record = dns.create(comment="made by hand")
    body = {"name": "vpn.example.org", "type": "A", "content": "203.0.113.10"}
    after = dns.call("PUT", f"/{record['id']}", body)
    assert (after["id"], after["comment"], after["ttl"]) == (record["id"], None, 1)
    assert after["created_on"] == record["created_on"]


@pytest.mark.parametrize(
    ("values", "stored"),
    [
        ({"name": "VPN"}, {"name": "vpn.example.org"}),
        ({"name": "@"}, {"name": "example.org"}),
        ({"type": "AAAA", "content": "2001:0DB8:10:0:0:0:0:1"}, {"content": "2001:db8:10::1"}),
        ({"type": "CNAME", "content": "Headscale.Example.org."}, {"content": "headscale.example.org"}),
        ({"proxied": True, "ttl": 60}, {"proxied": True, "ttl": 1}),
        ({"ttl": 300.0}, {"ttl": 300, "proxied": False, "proxiable": True}),
    ],
)
def test_records_are_stored_in_canonical_form(dns, values, stored):
    record = dns.create(**values)
    assert record | stored == record


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"content": "2001:db8::1"}, 9005),
        ({"content": "203.0.113.300"}, 9005),
        ({"type": "AAAA"}, 9006),
        ({"type": "CNAME", "content": "not a name"}, 9007),
        ({"name": "a..b"}, 9000),
        ({"name": ""}, 9000),
        ({"ttl": 59}, 9021),
        ({"ttl": 86401}, 9021),
        ({"type": "TXT", "content": "x", "proxied": True}, 9004),
    ],
)
def test_records_that_cannot_be_are_refused(dns, values, code):
    assert dns.create(**values) == (400, code)
    assert dns.published == []


def test_records_do_not_collide(dns):
    dns.create()
    dns.create(content="203.0.113.11")
    assert dns.create() == (400, 81058)
    assert dns.create(type="CNAME", content="other.example.org") == (400, 81053)
    dns.create(name="ui", type="CNAME", content="vpn.example.org")
    assert dns.create(name="ui") == (400, 81053)


def test_a_record_that_is_gone_is_81044(dns):
    for method, body in (("GET", None), ("PUT", {}), ("DELETE", None)):
        assert dns.call(method, "/" + "0" * 32, body) == (404, 81044)


def test_errors_tell_clients_not_to_retry(dns):
    status, headers, body = call(f"{dns.url}zones/{ZONE}/dns_records/none")
    assert (status, headers["x-should-retry"]) == (404, "false")
    assert (body["success"], body["result"]) == (False, None)
    assert call(f"{dns.url}zones", token="guess")[0] == 401


def test_zones_are_found_by_name(dns):
    zone_list = call(f"{dns.url}zones?name=example.org")[2]
    assert [zone["id"] for zone in zone_list["result"]] == [ZONE]
    assert zone_list["result_info"]["total_count"] == 1
    assert call(f"{dns.url}zones?name=example.com")[2]["result"] == []
    assert call(f"{dns.url}zones/{ZONE}")[2]["result"]["name"] == "example.org"
    assert call(f"{dns.url}zones/{'0' * 32}")[0] == 404


def test_records_are_found_by_name_and_type(dns):
    record = dns.create()
    dns.create(type="AAAA", content="2001:db8:10::1")
    dns.create(name="ui")
    assert [r["id"] for r in dns.call("GET", "?name=vpn.example.org&type=A")] == [record["id"]]
    assert len(dns.call("GET", "?name.exact=vpn.example.org")) == 2


def test_other_record_types_are_refused_loudly(dns):
    assert dns.create(type="MX", content="mail.example.org") == (501, 7000)
    assert dns.emulator.unexpected == [f"POST /client/v4/zones/{ZONE}/dns_records: record type 'MX'"]
    dns.emulator.unexpected.clear()
