"""The stand-in Cloudflare provider against the emulated API, without the engine."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pulumi.provider.experimental import provider as p

from rehearsal.emulators.api import Response, serve
from rehearsal.emulators.cloudflare import Cloudflare
from rehearsal.plugins.cloudflare import TYPE, CloudflareProvider
from rehearsal.plugins.cloudflare_api import camel, snake
from rehearsal.plugins.serve import Failure, Log
from rehearsal.plugins.values import Properties, plain, wrap

URN = f"urn:pulumi:dev::test::my:index:Parent${TYPE}::it"
ZONE = "0123456789abcdef0123456789abcdef"
RECORD = {"zoneId": ZONE, "name": "a.example.org", "type": "A", "content": "203.0.113.10", "ttl": 300}


@pytest.fixture
def emulator() -> Cloudflare:
    return Cloudflare({"example.org": ZONE}, "token")


@pytest.fixture
def provider(emulator: Cloudflare) -> Iterator[CloudflareProvider]:
    with serve(emulator) as url:
        yield configured(apiToken="token", baseUrl=url)


def configured(**config: str) -> CloudflareProvider:
    provider = CloudflareProvider(Log(""))
    asyncio.run(provider.configure(p.ConfigureRequest({}, properties(config), True, False)))
    return provider


def properties(values: dict[str, Any]) -> Properties:
    return {key: wrap(value) for key, value in values.items()}


def create(provider: CloudflareProvider, **inputs: Any) -> p.CreateResponse:
    request = p.CreateRequest(URN, properties(RECORD | inputs), 0, False)
    return asyncio.run(provider.create(request))


def read(provider: CloudflareProvider, record_state: p.CreateResponse) -> p.ReadResponse:
    request = p.ReadRequest(URN, record_state.resource_id or "", record_state.properties, properties(RECORD))
    return asyncio.run(provider.read(request))


def diff(provider: CloudflareProvider, olds: Properties, **news: Any) -> tuple[list[str], list[str]]:
    request = p.DiffRequest(URN, "it", olds, properties(RECORD | news), [])
    answer = asyncio.run(provider.diff(request))
    assert answer.changes == bool(answer.diffs)
    return answer.diffs, answer.replaces


def check(provider: CloudflareProvider, **inputs: Any) -> list[str]:
    request = p.CheckRequest(URN, {}, properties(RECORD | inputs), b"")
    return [failure.property for failure in asyncio.run(provider.check(request)).failures or []]


def invoke(provider: CloudflareProvider, function: str, /, **arguments: Any) -> dict[str, Any]:
    request = p.InvokeRequest(f"cloudflare:index/{function}:{function}", properties(arguments))
    return {key: plain(value) for key, value in (asyncio.run(provider.invoke(request)).return_value or {}).items()}


def test_a_record_is_created_with_what_the_sdk_expects(provider: CloudflareProvider, emulator: Cloudflare) -> None:
    record_state = create(provider, comment="by hand")
    values = {key: plain(value) for key, value in record_state.properties.items()}
    assert values == RECORD | values | {
        "comment": "by hand",
        "proxied": False,
        "proxiable": True,
        "meta": "{}",
    }
    assert {"createdOn", "modifiedOn", "settings", "tags"} <= values.keys()
    assert [record.content for record in emulator.records.values()] == ["203.0.113.10"]


def test_only_what_the_program_says_is_compared(provider: CloudflareProvider) -> None:
    olds = create(provider, comment="x").properties
    assert diff(provider, olds, comment="x") == ([], [])
    assert diff(provider, olds) == (["comment"], [])
    assert diff(provider, olds, comment="x", ttl=60, content="203.0.113.11") == (["content", "ttl"], [])
    assert diff(provider, olds, comment="x", type="AAAA", zoneId="other") == (
        ["type", "zoneId"],
        ["type", "zoneId"],
    )
    assert diff(provider, olds | {"proxied": wrap(True)}, comment="x") == (["proxied"], [])


def test_short_names_and_long_addresses_differ_for_ever(provider: CloudflareProvider) -> None:
    assert diff(provider, create(provider, name="short").properties, name="short") == (["name"], [])
    long = {"name": "six.example.org", "type": "AAAA", "content": "2001:DB8:0::1"}
    assert diff(provider, create(provider, **long).properties, **long) == (["content"], [])


def test_an_update_overwrites_in_place(provider: CloudflareProvider, emulator: Cloudflare) -> None:
    record_state = create(provider, comment="x")
    news = properties(RECORD | {"ttl": 60})
    request = p.UpdateRequest(URN, record_state.resource_id or "", record_state.properties, news, 0, [], False)
    assert plain(asyncio.run(provider.update(request)).properties["ttl"]) == 60
    (record,) = emulator.records.values()
    assert (record.id, record.ttl, record.comment) == (record_state.resource_id, 60, None)


def test_what_is_not_to_be_changed_is_sent_as_it_is(provider: CloudflareProvider, emulator: Cloudflare) -> None:
    record_state = create(provider, comment="by hand")
    news = properties(RECORD | {"ttl": 60})
    ignored = ["comment", "settings", "tags"]
    compare = p.DiffRequest(URN, "it", record_state.properties, properties(RECORD), ignored)
    assert not asyncio.run(provider.diff(compare)).changes
    update = p.UpdateRequest(URN, record_state.resource_id or "", record_state.properties, news, 0, ignored, False)
    asyncio.run(provider.update(update))
    (record,) = emulator.records.values()
    assert (record.ttl, record.comment) == (60, "by hand")


def test_reading_sees_what_changed_outside(provider: CloudflareProvider, emulator: Cloudflare) -> None:
    record_state = create(provider)
    by_hand = properties(RECORD | {"content": "203.0.113.99"})
    asyncio.run(provider.update(p.UpdateRequest(URN, record_state.resource_id or "", {}, by_hand, 0, [], False)))
    read_back = read(provider, record_state)
    assert plain(read_back.properties["content"]) == plain(read_back.inputs["content"]) == "203.0.113.99"
    assert read_back.inputs.keys() == RECORD.keys()
    assert diff(provider, read_back.properties) == (["content"], [])


def test_a_missing_record_is_gone_for_read_and_an_error_for_delete(provider: CloudflareProvider) -> None:
    record_state = create(provider)
    request = p.DeleteRequest(URN, record_state.resource_id or "", record_state.properties, 0)
    asyncio.run(provider.delete(request))
    assert not read(provider, record_state).resource_id
    with pytest.raises(Failure, match=r'make http request: DELETE ".*": 404 Not Found {.*81044'):
        asyncio.run(provider.delete(request))


def test_an_existing_record_is_not_taken_over(provider: CloudflareProvider) -> None:
    create(provider)
    with pytest.raises(Failure, match=r'make http request: POST ".*": 400 Bad Request {.*81058'):
        create(provider)


def test_a_record_is_imported_by_zone_and_id(provider: CloudflareProvider) -> None:
    record_state = create(provider)
    request = p.ReadRequest(URN, f"{ZONE}/{record_state.resource_id}", {}, {})
    read_back = asyncio.run(provider.read(request))
    assert (read_back.resource_id, plain(read_back.inputs["zoneId"])) == (record_state.resource_id, ZONE)
    assert diff(provider, read_back.properties) == ([], [])


def test_mistakes_are_named(provider: CloudflareProvider) -> None:
    assert check(provider) == []
    assert check(provider, name=None, zoneId=None) == ["name", "zoneId"]
    assert check(provider, ttl=5) == []
    with pytest.raises(Failure, match="Invalid TTL"):
        create(provider, ttl=5)


def test_a_zone_is_found_by_its_exact_name(provider: CloudflareProvider) -> None:
    looked_up = invoke(provider, "getZone", filter={"name": "example.org"})
    assert (looked_up["id"], looked_up["zoneId"], looked_up["name"]) == (ZONE, ZONE, "example.org")
    assert looked_up["nameServers"] and looked_up["filter"] == {"name": "example.org", "match": "all"}
    assert invoke(provider, "getZone", zoneId=ZONE)["name"] == "example.org"
    with pytest.raises(Failure, match=r"exactly one zone .*example.net.*: 0 found"):
        invoke(provider, "getZone", filter={"name": "example.net"})


def test_zones_are_listed(provider: CloudflareProvider) -> None:
    assert [zone["id"] for zone in invoke(provider, "getZones", name="example.org")["results"]] == [ZONE]
    assert invoke(provider, "getZones", name="example.net")["results"] == []


def test_the_keys_of_nested_values_are_spelled_both_ways() -> None:
    ours = {"settings": [{"ipv4Only": True, "flattenCname": None}]}
    theirs = {"settings": [{"ipv4_only": True, "flatten_cname": None}]}
    assert (snake(ours), camel(theirs)) == (theirs, ours)


def test_other_resources_and_functions_are_refused(provider: CloudflareProvider) -> None:
    with pytest.raises(Failure, match="getAccount is not in this stand-in"):
        invoke(provider, "getAccount")
    request = p.CheckRequest("urn:pulumi:dev::test::cloudflare:index/zone:Zone::it", {}, {}, b"")
    with pytest.raises(Failure, match="cloudflare:index/zone:Zone is not in this stand-in"):
        asyncio.run(provider.check(request))


def test_credentials_and_url_come_from_the_environment_too(
    emulator: Cloudflare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CLOUDFLARE_API_TOKEN", raising=False)
    with pytest.raises(Failure, match="no Cloudflare credentials"):
        configured()
    with serve(emulator) as url:
        monkeypatch.setenv("CLOUDFLARE_API_TOKEN", "token")
        monkeypatch.setenv("CLOUDFLARE_BASE_URL", url)
        assert create(configured()).resource_id in emulator.records
        monkeypatch.setenv("CLOUDFLARE_BASE_URL", url.rstrip("/"))
        with pytest.raises(Failure, match="501"):
            create(configured(), name="b.example.org")


def test_the_token_is_always_a_secret() -> None:
    config = properties({"apiToken": "token", "baseUrl": "url"})
    checked = asyncio.run(CloudflareProvider(Log("")).check_config(p.CheckRequest(URN, {}, config, b""))).inputs or {}
    assert {key for key, value in checked.items() if value.is_secret} == {"apiToken"}


def test_a_wrong_token_is_reported(emulator: Cloudflare) -> None:
    with serve(emulator) as url, pytest.raises(Failure, match=r"401 Unauthorized {.*unable to authenticate"):
        create(configured(apiToken="wrong", baseUrl=url))


def test_passing_failures_are_tried_again(
    provider: CloudflareProvider, emulator: Cloudflare, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    failures = [Response({}, 503), Response({}, 429, {"Retry-After": "7"}), Response({}, 500)]
    respond = emulator.respond
    monkeypatch.setattr(emulator, "respond", lambda *request: failures.pop() if failures else respond(*request))
    assert create(provider).resource_id in emulator.records
    assert waited == [2.0, 7.0, 8.0]


def test_a_failure_that_is_said_to_last_is_not_tried_again(
    provider: CloudflareProvider, emulator: Cloudflare, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = Response({"errors": [{"code": 1, "message": "no"}]}, 500, {"x-should-retry": "false"})
    monkeypatch.setattr(emulator, "respond", lambda *request: refusal)
    monkeypatch.delattr(time, "sleep")
    with pytest.raises(Failure, match=r"500 Internal Server Error {.*no"):
        create(provider)
