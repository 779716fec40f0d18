"""Faults of the emulated clouds: what each does to plain HTTP, and to the real engine with Hetzner's real provider."""

import http.client
import json
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import PluginsProgram
from emulated import PUBLIC_KEY, TOKEN, Cloud, call, hetzner

from rehearsal import plugins
from rehearsal.emulators.api import serve
from rehearsal.emulators.cloudflare import Cloudflare
from rehearsal.emulators.faults import Fault
from rehearsal.sandbox.wait import eventually
from rehearsal.setup import programs

PROGRAM = Path(__file__).parent / "hcloud_program.py"
KEY = {"name": "test", "public_key": PUBLIC_KEY}
ALL = ["server test", "ssh_key test", "firewall test", "primary_ip test-ipv4", "primary_ip test-ipv6"]


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with hetzner() as cloud:
        yield cloud
    assert cloud.emulator.faults == []


def post(cloud: Cloud) -> int:
    return call(f"{cloud.url}/ssh_keys", "POST", KEY)[0]


def ordered(cloud: Cloud) -> bool:
    return cloud.emulator.leftovers() == ["ssh_key test"]


def test_an_error_comes_in_the_apis_own_shape_as_often_as_asked(cloud):
    cloud.emulator.fail(Fault("POST /ssh_keys", status=429, code="rate_limit_exceeded", times=2))
    for _ in range(2):
        status, _, body = call(f"{cloud.url}/ssh_keys", "POST", KEY)
        assert (status, body["error"]["code"], ordered(cloud)) == (429, "rate_limit_exceeded", False)
    assert (post(cloud), ordered(cloud)) == (201, True)
    assert [call.status for call in cloud.emulator.calls] == [429, 429, 201]


def test_cloudflares_errors_leave_the_retry_to_the_client():
    emulator = Cloudflare({"example.org": "0" * 32}, TOKEN)
    emulator.fail(Fault("GET /zones", status=503, code=10000))
    with serve(emulator) as url:
        status, headers, body = call(f"{url}zones")
    assert (status, body["success"], body["errors"][0]["code"]) == (503, False, 10000)
    assert "x-should-retry" not in headers


def test_a_status_without_a_code_comes_from_a_proxy(cloud):
    cloud.emulator.fail(Fault("POST /ssh_keys", status=502))
    parts = urlsplit(cloud.url)
    with closing(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)) as connection:
        connection.request("POST", "/v1/ssh_keys", json.dumps(KEY), {"Authorization": f"Bearer {TOKEN}"})
        response = connection.getresponse()
        assert (response.status, response.headers["Content-Type"]) == (502, "text/html")
        assert response.read().startswith(b"<html>")
    assert not ordered(cloud)


@pytest.mark.parametrize("after", [False, True])
def test_a_dropped_connection_says_nothing(cloud, after):
    cloud.emulator.fail(Fault("POST /ssh_keys", drop=True, after=after))
    with pytest.raises(http.client.RemoteDisconnected):
        post(cloud)
    assert ordered(cloud) == after
    assert cloud.emulator.calls == [("POST", "/v1/ssh_keys", 0)]


def test_an_error_may_tell_of_what_was_done(cloud):
    cloud.emulator.fail(Fault("POST /ssh_keys", status=504, code="timeout", after=True))
    assert (post(cloud), ordered(cloud)) == (504, True)


@pytest.mark.parametrize("after", [False, True])
def test_a_delay_holds_up_one_request_and_no_other(cloud, after):
    cloud.emulator.fail(Fault("POST /ssh_keys", delay=1, after=after))
    start = time.monotonic()
    with ThreadPoolExecutor() as pool:
        late = pool.submit(post, cloud)
        eventually(lambda: not cloud.emulator.faults and ordered(cloud) == after, what="the fault strikes", timeout=5)
        assert call(f"{cloud.url}/locations")[0] == 200
        assert (ordered(cloud), late.done()) == (after, False)
        assert (late.result(), ordered(cloud)) == (201, True)
    assert time.monotonic() - start >= 1


def test_faults_strike_what_they_name_one_at_a_time_in_order(cloud):
    cloud.emulator.fail(
        Fault("GET /servers", status=500, code="first"),
        Fault("* /s*", status=500, code="second"),
        Fault("DELETE /*", status=500, code="third"),
    )
    asked = (("POST", "/firewalls"), ("GET", "/servers"), ("GET", "/ssh_keys/1"), ("DELETE", "/servers/1"))
    answers = [call(f"{cloud.url}{path}", method)[2]["error"]["code"] for method, path in asked]
    assert answers == ["invalid_input", "first", "second", "third"]


@pytest.mark.parametrize("fields", [{}, {"code": "locked"}, {"drop": True, "status": 500}, {"after": True}])
def test_a_fault_without_an_effect_is_a_mistake(fields):
    with pytest.raises(ValueError, match="fault of GET /servers: "):
        Fault("GET /servers", **fields)


@dataclass(frozen=True)
class ServerOrder:
    """A program that orders a server, not up yet."""

    project: PluginsProgram
    cloud: Cloud

    def up(self, *faults: Fault, expect: int = 0) -> str:
        return self._with(faults, "up", expect)

    def destroy(self, *faults: Fault, expect: int = 0) -> str:
        return self._with(faults, "destroy", expect)

    def _with(self, faults: tuple[Fault, ...], verb: str, expect: int) -> str:
        self.cloud.emulator.fail(*faults)
        output = self.project.run(verb, "--yes", "--skip-preview", expect=expect)
        assert self.cloud.emulator.faults == []
        return output

    def tried(self, request: str) -> list[int]:
        """The statuses that such requests got, 0 where the connection was dropped."""
        return [call.status for call in self.cloud.emulator.calls if f"{call.method} {call.path}" == request]

    def assert_converged(self) -> None:
        self.project.preview("--refresh", "--expect-no-changes")
        assert sorted(self.cloud.emulator.leftovers()) == sorted(ALL)


@pytest.fixture
def deployment(project: PluginsProgram, cloud: Cloud) -> ServerOrder:
    shutil.copy(PROGRAM, project.directory / "__main__.py")
    plugins.install_hcloud(Path(project.environment["PULUMI_HOME"]), programs.build(print))
    project.environment["HCLOUD_TOKEN"] = TOKEN
    project.run("config", "set", "hcloud:endpoint", cloud.url)
    return ServerOrder(project, cloud)


def test_the_provider_retries_what_passes(deployment):
    deployment.up(
        Fault("POST /ssh_keys", status=429, code="rate_limit_exceeded"),
        Fault("POST /firewalls", status=409, code="conflict"),
        Fault("POST /primary_ips", status=502),
        Fault("POST /servers", status=504),
    )
    assert deployment.tried("POST /v1/ssh_keys") == [429, 201]
    assert deployment.tried("POST /v1/firewalls") == [409, 201]
    assert deployment.tried("POST /v1/primary_ips").count(502) == 1
    assert deployment.tried("POST /v1/servers") == [504, 201]
    deployment.assert_converged()


def test_what_the_provider_does_not_retry_fails_loudly_until_the_next_up(deployment):
    # The delay lets all of them begin: the engine orders nothing more after the first failure.
    outcome = deployment.up(
        Fault("POST /ssh_keys", status=423, code="locked", delay=1.5),
        Fault("POST /firewalls", status=500, code="server_error", delay=1.5),
        Fault("POST /primary_ips", drop=True, delay=1.5),
        expect=1,
    )
    for words in ("POST /ssh_keys (locked)", "POST /firewalls (server_error)", '/v1/primary_ips": EOF'):
        assert words in outcome
    assert deployment.tried("POST /v1/ssh_keys") == [423]
    assert deployment.tried("POST /v1/firewalls") == [500]
    assert sorted(deployment.tried("POST /v1/primary_ips")) == [0, 201]
    deployment.up()
    deployment.assert_converged()


def test_an_order_whose_success_was_not_reported_is_removed_by_hand(deployment):
    """Its name is used and not in the state: every `up` is refused, and says so, until the orphan is gone."""
    client = deployment.cloud.client
    outcome = deployment.up(Fault("POST /ssh_keys", status=504, after=True), expect=1)
    assert "name 'test' is already used (uniqueness_error)" in outcome
    assert deployment.tried("POST /v1/ssh_keys") == [504, 409]
    client.ssh_keys.get_by_name("test").delete()

    outcome = deployment.up(Fault("POST /servers", drop=True, after=True), expect=1)
    assert '/v1/servers": EOF' in outcome
    assert "name 'test' is already used (uniqueness_error)" in deployment.up(expect=1)
    orphan = client.servers.get_by_name("test")
    orphan.delete().wait_until_finished()

    deployment.up()
    deployment.assert_converged()
    assert client.servers.get_by_name("test").id != orphan.id


def test_a_change_whose_success_was_not_reported_is_repeated(deployment):
    deployment.up()
    deployment.project.run("config", "set", "port", "2222")
    assert "EOF" in deployment.up(Fault("POST /firewalls/*/set_rules", drop=True, after=True), expect=1)
    deployment.up()
    deployment.assert_converged()


def test_a_deletion_whose_success_was_not_reported_needs_a_refresh(deployment):
    """The provider does not take a server that is not found for one that it has deleted."""
    deployment.up()
    assert "EOF" in deployment.destroy(Fault("DELETE /servers/*", drop=True, after=True), expect=1)
    assert "not found (not_found)" in deployment.destroy(expect=1)
    deployment.project.run("destroy", "--yes", "--skip-preview", "--refresh")
    assert deployment.cloud.emulator.is_empty()
