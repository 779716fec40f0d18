"""scripts/doctor tells each thing that a `pulumi up` needs, sees it fail, and its remedies work; it changes nothing.

Pulumi, sops and HTTP are real, the clouds are emulators; `hcloud` itself is not run.
"""

import contextlib
import json
import os
import pty
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from emulated import TOKEN, Cloud, finish, hetzner
from pyrage import x25519

from rehearsal import plugins
from rehearsal.emulators import cloudflare as emulated_cloudflare
from rehearsal.emulators.api import serve
from rehearsal.emulators.cloudflare import Cloudflare
from rehearsal.emulators.faults import Fault
from rehearsal.operator.stack import NAME, PROGRAM, PulumiFailed, Stack
from rehearsal.sandbox.wait import eventually
from rehearsal.setup import programs
from scripts.health import locks

ZONE = "0123456789abcdef0123456789abcdef"
# Among the stack's adminNetworks.
AT_HOME = ("--address", "198.51.100.10")
SERVER = f"{NAME}-headscale"
ORDER = "server type and location"
SUBJECTS = {
    *("Pulumi CLI", "Python packages", "sops", "backend", "stack", "passphrase", "configuration", "state", "lock"),
    *("SOPS file", "your age key", "Hetzner's token", "server type and location", "leftovers at Hetzner"),
    *("Cloudflare's token", "zone", "other records", "your address"),
}
Lines = dict[tuple[str, str], list[dict[str, str]]]


@dataclass
class DoctorsOperator:
    """Somebody with a stack that is ready for its first `pulumi up`, and both clouds."""

    stack: Stack
    cloud: Cloud
    cloudflare: Cloudflare

    def command(self, *flags: str) -> list[str]:
        chosen = () if "--stack" in flags else ("--stack", NAME)
        return [str(PROGRAM / "scripts/doctor"), *chosen, "--config-file", str(self.stack.config_file), *flags]

    def start(self, *flags: str, **more: str) -> subprocess.CompletedProcess[str]:
        environment = self.stack.environment | more
        process = subprocess.run(
            self.command(*flags), env=environment, cwd=self.stack.directory, capture_output=True, text=True, timeout=120
        )
        assert "Traceback" not in process.stderr, process.stderr
        return process

    def doctor(self, *flags: str, **more: str) -> Lines:
        """The lines by subject and state; the exit status must be theirs, and each failing line has a remedy."""
        process = self.start("--json", *(flags or AT_HOME), **more)
        lines: Lines = {}
        for line in json.loads(process.stdout):
            lines.setdefault((line["subject"], line["state"]), []).append(line)
        failing = [line for (_, state), of_state in lines.items() if state == "fails" for line in of_state]
        assert process.returncode == bool(failing), process.stdout
        assert all(line["text"] and line["remedy"] for line in failing), failing
        assert {subject for subject, _ in lines} == SUBJECTS
        return lines


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory, engine: Path) -> Iterator[DoctorsOperator]:
    directory = tmp_path_factory.mktemp("doctor")
    home = directory / "home"
    plugins.install(home, Path(sys.executable))
    plugins.install_hcloud(home, programs.build(print))
    stack = Stack(directory / "stack", engine, home)
    stack.environment["HOME"] = str(home)
    stack.make_secrets()
    cloudflare = Cloudflare({"example.org": ZONE}, "token")
    with hetzner() as cloud, serve(cloudflare) as url:
        stack.config("set", "hcloud:endpoint", cloud.url)
        stack.config("set", "cloudflare:baseUrl", url)
        stack.environment |= {"HCLOUD_TOKEN": TOKEN, "CLOUDFLARE_API_TOKEN": "token"}
        yield DoctorsOperator(stack, cloud, cloudflare)
        assert cloudflare.unexpected == []


def files(operator: DoctorsOperator) -> dict[str, bytes]:
    """All that is kept: settings, secrets, keys and the state; pulumi writes a log of each command."""
    paths = [*operator.stack.directory.rglob("*"), *PROGRAM.glob("*.yaml"), *PROGRAM.glob(".*.yaml")]
    return {str(path): path.read_bytes() for path in paths if path.is_file() and "logs" not in path.parts}


def test_all_is_well_and_nothing_is_changed(operator: DoctorsOperator):
    before = files(operator)
    operator.cloud.emulator.calls.clear()
    operator.cloudflare.calls.clear()
    lines = operator.doctor()
    assert {key for key in lines if key[1] != "ok"} == {("Hetzner's token", "not known")}
    assert "the token may edit its records" in lines["zone", "ok"][1]["text"]
    assert files(operator) == before
    calls = [*operator.cloud.emulator.calls, *operator.cloudflare.calls]
    assert {call.method for call in calls} == {"GET"}
    paths = ("server_types", "servers", "primary_ips", "firewalls", "ssh_keys")
    assert {f"/v1/{path}" for path in paths} <= {call.path for call in calls}


@contextmanager
def changed(stack: Stack, **values: Any) -> Iterator[None]:
    """Other values of settings in clear, none where they are None; then the settings as they were."""
    before = stack.config_file.read_text()
    settings = yaml.safe_load(before)
    for key, value in values.items():
        name = key.replace("__", ":") if "__" in key else f"headscale:{key}"
        settings["config"].pop(name, None)
        if value is not None:
            settings["config"][name] = value
    stack.config_file.write_text(yaml.safe_dump(settings))
    yield
    stack.config_file.write_text(before)


@contextmanager
def faults(api: Any, *of_api: Fault) -> Iterator[None]:
    api.fail(*of_api)
    yield
    assert not api.faults


def path_without(operator: DoctorsOperator, name: str, script: str = "") -> str:
    """A PATH on which a program is missing, or is another one."""
    directory = operator.stack.directory.with_name(f"without-{name}-{len(script)}")
    directory.mkdir(exist_ok=True)
    for program in ("sh", "dirname", "pulumi", "sops"):
        if program != name and not (directory / program).exists():
            place = shutil.which(program, path=operator.stack.environment["PATH"])
            (directory / program).symlink_to(place or "")
    (directory / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (directory / "python3").chmod(0o755)
    if script:
        (directory / name).write_text(f"#!/bin/sh\n{script}\n")
        (directory / name).chmod(0o755)
    return str(directory)


def only(lines: Lines, subject: str, state: str, words: str, remedy: str) -> None:
    """Assert that this line is the only one of its subject that is known."""
    of_subject = {key: of_key for key, of_key in lines.items() if key[0] == subject}
    assert {key[1] for key in of_subject} == {state}, of_subject
    assert any(re.search(words, line["text"]) for line in of_subject[subject, state]), of_subject
    assert any(re.search(remedy, line["remedy"]) for line in of_subject[subject, state]), of_subject


def test_a_program_that_is_missing_or_old_is_reported_with_how_to_get_it(operator: DoctorsOperator):
    real = shutil.which("pulumi", path=operator.stack.environment["PATH"])
    old = f'[ "$1" != version ] || {{ echo v3.271.9; exit; }}\nexec {real} "$@"'
    without = operator.doctor(PATH=path_without(operator, "pulumi"))
    only(without, "Pulumi CLI", "fails", "`pulumi` is not on PATH", "curl -fsSL https://get.pulumi.com")
    only(without, "backend", "not known", "not looked at without pulumi", "")
    only(without, "Hetzner's token", "not known", "not looked at without the stack's configuration", "")
    lines = operator.doctor(PATH=path_without(operator, "pulumi", old))
    only(lines, "Pulumi CLI", "fails", r"3\.271\.9 is older than 3\.272", "get.pulumi.com")
    lines = operator.doctor(PATH=path_without(operator, "sops"))
    only(lines, "sops", "fails", "`sops` is not on PATH", "brew install sops")
    only(lines, "your age key", "not known", "not looked at without sops", "")
    lines = operator.doctor(PATH=path_without(operator, "sops", "echo sops 3.10.2"))
    only(lines, "sops", "fails", r"3\.10\.2 is older than 3\.11", "brew install sops")


def test_without_the_python_packages_it_reports_all_that_needs_none(operator: DoctorsOperator):
    path = path_without(operator, "python3", f'exec {sys.executable} -S "$@"')
    lines = operator.doctor(PATH=path)
    only(lines, "Python packages", "fails", "lacks pyrage 1.4.0", "`pulumi install` installs it")
    only(lines, "SOPS file", "not known", "without the Python module", "`pulumi install` installs it")
    assert ("Hetzner's token", "ok") in lines


def test_a_python_that_is_too_old_is_reported(operator: DoctorsOperator, tmp_path: Path):
    (tmp_path / "old.py").write_text("import sys\nsys.version_info = (3, 9, 6)\nimport scripts\n")
    environment = os.environ | {"PYTHONPATH": str(PROGRAM)}
    process = subprocess.run([sys.executable, tmp_path / "old.py"], env=environment, capture_output=True, text=True)
    assert process.returncode == 1
    assert re.fullmatch(r"scripts: \S+ is Python .*; install Python 3\.11 or newer\n", process.stderr)


def test_a_backend_a_stack_or_a_passphrase_that_is_missing_is_reported(operator: DoctorsOperator):
    backend = operator.doctor(PULUMI_BACKEND_URL="")
    only(backend, "backend", "fails", "requires logging in", "`export PULUMI_BACKEND_URL=")
    only(backend, "stack", "not known", "not looked at without a backend", "")
    only(operator.doctor(PULUMI_BACKEND_URL="file:///nowhere"), "backend", "fails", "/nowhere", "`pulumi login`")
    stack = operator.doctor("--stack", "yours", *AT_HOME)
    only(stack, "stack", "fails", "no stack named 'yours' found", "`pulumi stack init NAME` makes one")
    only(stack, "lock", "not known", "not looked at without a stack", "")
    passphrase = operator.doctor(PULUMI_CONFIG_PASSPHRASE="wrong")
    only(passphrase, "passphrase", "fails", "incorrect passphrase", "PULUMI_CONFIG_PASSPHRASE")
    only(passphrase, "configuration", "not known", "not looked at without the stack's configuration", "")
    assert ("state", "ok") in passphrase


def test_a_setting_that_is_wrong_is_reported(operator: DoctorsOperator):
    with changed(
        operator.stack, domain=None, acmeEmail="me", deployKey=None, sshHostKey="hunter2", adminNetworks=["x"]
    ):
        lines = operator.doctor()
    only(lines, "configuration", "fails", "headscale:domain is not set", "`pulumi config set domain example.org`")
    only(lines, "configuration", "fails", "headscale:acmeEmail is not an e-mail", "`pulumi config set acmeEmail")
    only(lines, "configuration", "fails", "headscale:deployKey is not set", "`scripts/init` makes it")
    only(lines, "configuration", "fails", "headscale:sshHostKey is not a private key", "`scripts/init` makes it")
    only(lines, "other records", "not known", "not looked at without", "")
    only(lines, "your address", "not known", "headscale:adminNetworks has a mistake in it", "")
    assert "hunter2" not in str(lines)


def test_a_sops_file_that_the_server_or_the_operator_cannot_open_is_reported(operator: DoctorsOperator):
    with changed(operator.stack, hostAgeKey=str(x25519.Identity.generate())):
        lines = operator.doctor(SOPS_AGE_KEY_FILE="/dev/null")
    only(lines, "SOPS file", "fails", "is not encrypted to the server's age key", "`sops updatekeys ")
    only(lines, "your age key", "fails", "you cannot open .*secrets.yaml: ", "it is for age1.*SOPS_AGE_KEY_FILE")
    way_in = f"`SOPS_AGE_KEY_CMD='pulumi config get --stack {NAME} headscale:hostAgeKey' sops updatekeys "
    assert way_in in lines["your age key", "fails"][0]["remedy"]
    with changed(operator.stack, secretsFile="none.yaml"):
        lines = operator.doctor()
    only(lines, "SOPS file", "fails", "none.yaml does not exist", "`scripts/init` makes it")
    only(lines, "your age key", "not known", "not looked at without none.yaml", "")


HETZNERS_LISTS = "asked for its lists (server-type, server, primary-ip, firewall, ssh-key), Hetzner answers: "
STRANGE = "has a space, a line break or another letter"
# By the tokens of Hetzner and Cloudflare.
TOKENS = {
    ("", ""): ("HCLOUD_TOKEN is not set", "CLOUDFLARE_API_TOKEN is not set"),
    ("z" * 63 + "\n", "z\n"): (f"HCLOUD_TOKEN {STRANGE}", f"CLOUDFLARE_API_TOKEN {STRANGE}"),
    ("z" * 64, "z" * 40): (
        re.escape(f"{HETZNERS_LISTS}401, unable to authenticate"),
        "Cloudflare answers: 401, unable to authenticate",
    ),
}
READ_AND_WRITE = "a token that may read and write; create one in Hetzner's"
ZONE_AND_DNS = "Zone Read and DNS Edit for example.org"


@pytest.mark.parametrize("tokens", TOKENS)
def test_a_token_that_is_not_accepted_is_reported(operator: DoctorsOperator, tokens: tuple[str, str]):
    lines = operator.doctor(HCLOUD_TOKEN=tokens[0], CLOUDFLARE_API_TOKEN=tokens[1])
    only(lines, "Hetzner's token", "fails", TOKENS[tokens][0], READ_AND_WRITE)
    only(lines, "Cloudflare's token", "fails", TOKENS[tokens][1], ZONE_AND_DNS)
    for subject in ("leftovers at Hetzner", "server type and location", "zone", "other records"):
        only(lines, subject, "not known", "not looked at without", "")
    assert "zzz" not in str(lines)


def test_a_token_that_may_not_read_all_is_reported(operator: DoctorsOperator):
    records = Fault("GET /zones/*/dns_records", status=403, code=10000, times=2)
    firewalls = Fault("GET /firewalls", status=403, code="forbidden")
    with faults(operator.cloudflare, records), faults(operator.cloud.emulator, firewalls):
        lines = operator.doctor()
    only(lines, "Hetzner's token", "fails", r"its lists \(firewall\), Hetzner answers: 403, injected", READ_AND_WRITE)
    only(lines, "Cloudflare's token", "fails", "Cloudflare answers: 403, injected", ZONE_AND_DNS)
    assert {("server type and location", "ok"), ("zone", "ok")} <= lines.keys()


def test_a_cloud_that_does_not_answer_is_not_blamed_on_the_token(operator: DoctorsOperator):
    later = "see that this machine reaches it, and try again; https://"
    broken = Fault("GET /servers", status=502), Fault("GET /ssh_keys", drop=True)
    zones = Fault("GET /zones", status=429, code=971)
    with faults(operator.cloud.emulator, *broken), faults(operator.cloudflare, zones):
        lines = operator.doctor()
    only(lines, "Hetzner's token", "fails", "answers: 502, ", later)
    only(lines, "Hetzner's token", "fails", "answers: no answer from http.*/ssh_keys: ", later)
    only(lines, "Cloudflare's token", "fails", "does not answer: 429, injected", later)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
    with changed(operator.stack, hcloud__endpoint=nobody, cloudflare__baseUrl="nowhere"):
        lines = operator.doctor()
    only(lines, "Hetzner's token", "fails", f"no answer from {nobody}", later)
    only(lines, "Cloudflare's token", "fails", "no answer from nowhere", later)


def test_an_answer_that_is_not_the_apis_is_reported(operator: DoctorsOperator):
    with (
        page("<html>") as (text, _),
        page('{"servers": 1}') as (other, _),
        changed(operator.stack, hcloud__endpoint=text, cloudflare__baseUrl=other),
    ):
        lines = operator.doctor()
    only(lines, "Hetzner's token", "fails", "something that is not JSON came from", "try again")
    only(lines, "Cloudflare's token", "fails", "an answer of another form came from", "try again")


def test_a_redirect_does_not_carry_the_token_away(operator: DoctorsOperator):
    operator.cloud.emulator.calls.clear()
    with page("", 302, operator.cloud.url) as (url, requests), changed(operator.stack, hcloud__endpoint=url):
        assert ("Hetzner's token", "fails") in operator.doctor()
    assert len(requests) == 5
    assert operator.cloud.emulator.calls == []


def test_tokens_come_from_the_stacks_configuration_first(operator: DoctorsOperator):
    with changed(operator.stack, hcloud__token=TOKEN, cloudflare__apiToken="token"):
        lines = operator.doctor(HCLOUD_TOKEN="z" * 64, CLOUDFLARE_API_TOKEN="z" * 40)
    assert {("Hetzner's token", "ok"), ("Cloudflare's token", "ok")} <= lines.keys()


@contextmanager
def zone_with(monkeypatch: pytest.MonkeyPatch, **fields: Any) -> Iterator[None]:
    zone = emulated_cloudflare._zone
    with monkeypatch.context() as patch:
        patch.setattr(emulated_cloudflare, "_zone", lambda name, id: zone(name, id) | fields)
        yield


def test_a_zone_that_is_not_there_waits_or_may_only_be_read_is_reported(
    operator: DoctorsOperator, monkeypatch: pytest.MonkeyPatch
):
    former = ["vpn.example.net example.net"]
    with changed(operator.stack, zone="org.example", formerHeadscaleNames=former, location="nbg7"):
        lines = operator.doctor()
    only(
        lines, "zone", "fails", "does not show this token a zone example.net", "Zone Read and DNS Edit for example.net"
    )
    only(lines, "zone", "fails", "does not show this token a zone org.example", "DNS Edit for org.example")
    only(lines, ORDER, "fails", "nbg7 is not one of Hetzner's", "takes one of ash, fsn1, hel1")
    with zone_with(monkeypatch, status="pending", permissions=["#dns_records:read", "#zone:read"]):
        lines = operator.doctor()
    only(lines, "zone", "fails", "example.org is pending: nobody asks Cloudflare", "name ada.* at its registrar")
    only(lines, "zone", "fails", "the token may read its records and not edit them", ZONE_AND_DNS)
    with zone_with(monkeypatch, permissions=[]):
        assert ("zone", "not known") in operator.doctor()


def test_an_order_that_hetzner_cannot_carry_out_is_reported(operator: DoctorsOperator):
    with changed(operator.stack, serverType="cx99"):
        only(operator.doctor(), ORDER, "fails", "cx99 is not one of Hetzner's", "Hetzner has cax11, .* in nbg1")
    sold_out = operator.cloud.emulator.project.sold_out
    sold_out["cx23", "nbg1"] = True
    lines = operator.doctor()
    sold_out.clear()
    only(lines, ORDER, "fails", "cx23 is sold out in nbg1", r"another type \(.*cx33.*another place \(fsn1, hel1\)")


def test_things_with_the_stacks_names_that_the_state_lacks_are_reported(operator: DoctorsOperator):
    client, project = operator.cloud.client, operator.cloud.emulator.project
    key = operator.stack.config("get", "headscale:sshHostKey")
    ssh_key = client.ssh_keys.create(f"{SERVER}-0123abcd", public_half(key))
    # Hetzner's pages have 50 at the most.
    others = [client.firewalls.create(f"{SERVER}-of-mine-{number}").firewall for number in range(50)]
    firewall = client.firewalls.create(SERVER).firewall
    address = operator.cloud.primary_ip(name=f"{SERVER}-ipv4-hel1")
    server = operator.cloud.server(SERVER)
    finish(server.change_protection(delete=True, rebuild=True))
    own = [ip for ip in project.primary_ips.values() if ip.assignee_id == server.id]
    lines = operator.doctor()
    commands = [re.findall("`(hcloud .*?)`", line["remedy"])[0] for line in lines["leftovers at Hetzner", "fails"]]
    assert commands == [
        f"hcloud server disable-protection {server.id} delete rebuild && hcloud server delete {server.id}",
        f"hcloud primary-ip delete {address.id}",
        f"hcloud firewall delete {firewall.id}",
        f"hcloud ssh-key delete {ssh_key.id}",
    ]
    remedies = [line["remedy"] for line in lines["leftovers at Hetzner", "fails"]]
    assert all(f"another stack called {NAME}, with its state elsewhere, may own it" in text for text in remedies)
    assert len(own) == 2
    finish(server.change_protection(delete=False, rebuild=False), server.delete())
    for thing in (address, firewall, *others, ssh_key):
        thing.delete()
    assert ("leftovers at Hetzner", "ok") in operator.doctor()


def public_half(private: str) -> str:
    derive = ["ssh-keygen", "-y", "-f", "/dev/stdin"]
    text = private.strip() + "\n"
    return subprocess.run(derive, input=text, check=True, capture_output=True, text=True).stdout


def test_other_records_at_the_names_are_reported_and_the_command_deletes_them(operator: DoctorsOperator):
    operator.cloudflare.add("example.org", name="headscale", type="A", content="192.0.2.99")
    operator.cloudflare.add("example.org", name="headscale-ui", type="CNAME", content="example.net")
    operator.cloudflare.add("example.org", name="headscale", type="TXT", content="mine")
    operator.cloudflare.add("example.org", name="www", type="A", content="192.0.2.99")
    lines = operator.doctor()
    only(lines, "other records", "fails", "headscale.example.org has A 192.0.2.99", f"another stack called {NAME}")
    only(lines, "other records", "fails", "headscale-ui.example.org has CNAME example.net", "may need it")
    for line in lines["other records", "fails"]:
        command = re.findall("`(curl .*?)`", line["remedy"])[0]
        subprocess.run(command, shell=True, check=True, env=operator.stack.environment, capture_output=True)
    assert ("other records", "ok") in operator.doctor()
    assert sorted(record.type for record in operator.cloudflare.records.values()) == ["A", "TXT"]
    for id in list(operator.cloudflare.records):
        operator.cloudflare.remove(id)


def test_what_a_killed_engine_leaves_is_reported_and_the_commands_clear_it(operator: DoctorsOperator):
    stack, project = operator.stack, operator.cloud.emulator.project
    operator.cloud.emulator.fail(Fault("POST /servers", delay=30, after=True))
    stack.flags = ("--target", "**::server*", "--target", "**::dns*")
    with up_until(stack, lambda: bool(project.servers)):
        lines = operator.doctor()
        only(lines, "lock", "warning", f"held by process {stack._running.pid} of", "wait for its end")
        for subject in ("state", "leftovers at Hetzner", "other records"):
            only(lines, subject, "not known", "not looked at while an engine works on the stack", "")
    lines = operator.doctor()
    only(lines, "lock", "fails", "left by process .*, which has ended", f"`pulumi cancel --stack {NAME}` releases it")
    only(lines, "state", "warning", "creating server-server had begun", "`pulumi refresh --clear-pending-creates ")
    (server,) = project.servers
    only(lines, "leftovers at Hetzner", "fails", f"a server {SERVER} ", f"`hcloud server delete {server}` deletes it")
    stack._plain(*shlex.split(re.findall("`pulumi (.*?)`", lines["lock", "fails"][0]["remedy"])[0]), "--yes")
    finish(operator.cloud.client.servers.get_by_id(server).delete())
    stack.flags = ()
    stack._run("refresh", "--yes", "--skip-preview", "--clear-pending-creates")
    lines = operator.doctor()
    assert {key for key in lines if key[1] != "ok"} == {("Hetzner's token", "not known")}
    stack.destroy()


@dataclass
class Elsewhere:
    """A stack at a backend that is not run."""

    url: str

    def backend(self) -> dict[str, str]:
        return {"url": self.url}

    def stack(self) -> "Elsewhere":
        return self

    name = "mine"


def test_a_lock_of_another_machine_or_of_a_backend_that_does_not_show_it_is_not_said_to_be_left(tmp_path: Path):
    (line,) = locks.check(Elsewhere("https://api.pulumi.com/me"))
    assert (line.state, line.remedy.rpartition(", ")[2]) == ("not known", "`pulumi cancel --stack mine` releases it")
    place = tmp_path / ".pulumi/locks/organization/headscale/mine/1.json"
    place.parent.mkdir(parents=True)
    place.write_text(
        json.dumps({"pid": 1 << 30, "username": "me", "hostname": "far", "timestamp": "2026-12-01T00:00:00Z"})
    )
    (line,) = locks.check(Elsewhere(f"file://{tmp_path}"))
    assert (line.state, line.text) == ("warning", f"held by process {1 << 30} of me on far, since 2026-12-01T00:00:00")


@contextmanager
def up_until(stack: Stack, moment: Callable[[], bool]) -> Iterator[None]:
    """`pulumi up` goes on until the moment, and is killed after the block."""

    def up() -> None:
        with contextlib.suppress(PulumiFailed):
            stack.up()

    thread = threading.Thread(target=up)
    thread.start()
    eventually(moment, "the moment to kill pulumi at", 60)
    yield
    assert stack._running
    stack._running.kill()
    thread.join()


@contextmanager
def page(text: str, status: int = 200, location: str = "") -> Iterator[tuple[str, list[str]]]:
    """A page that answers every GET alike, and the paths that were asked for."""
    paths: list[str] = []

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(status)
            if location:
                self.send_header("Location", location + self.path)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", paths
        server.shutdown()


def test_the_service_that_tells_the_address_is_named_before_it_is_asked(operator: DoctorsOperator):
    with page("198.51.100.10\n") as (url, requests):
        process = operator.start("--address-service", url)
        assert process.stderr.startswith(f"asking {url} for this machine's public address; --address ADDRESS makes")
        assert "ok         your address: 198.51.100.10 is among adminNetworks\n" in process.stdout
        assert requests == ["/"]
        operator.doctor("--address-service", url, *AT_HOME)
        with changed(operator.stack, adminNetworks=[]):
            lines = operator.doctor("--address-service", url)
        only(lines, "your address", "warning", "open to you and to anyone", r"adminNetworks\[0\]' YOUR_ADDRESS/32")
        assert requests == ["/"]
    with page("<html>hello</html>") as (url, _):
        lines = operator.doctor("--address-service", url)
    only(lines, "your address", "not known", "it answered '<html>hello</html>', which is not an address", "--address")
    with page("", status=503) as (url, _):
        only(operator.doctor("--address-service", url), "your address", "not known", "503", "--address ADDRESS gives")


def test_an_address_that_is_shut_out_is_reported_and_the_command_lets_it_in(operator: DoctorsOperator):
    away = ("--address", "203.0.113.7")
    lines = operator.doctor(*away)
    only(
        lines, "your address", "fails", "203.0.113.7 is not among adminNetworks: SSH, and so `pulumi up`", "lets it in"
    )
    with changed(operator.stack, adminNetworksExcludeMe=True):
        only(operator.doctor(*away), "your address", "warning", "as adminNetworksExcludeMe allows", "lets it in")
    with changed(operator.stack):
        command = re.findall("`pulumi config (.*?)`", lines["your address", "fails"][0]["remedy"])[0]
        operator.stack.config(*shlex.split(command))
        assert ("your address", "ok") in operator.doctor(*away)
        assert ("your address", "ok") in operator.doctor()


def test_the_text_has_a_line_for_each_thing_and_its_remedy_below(operator: DoctorsOperator):
    process = operator.start(*AT_HOME, CLOUDFLARE_API_TOKEN="")
    assert process.returncode == 1
    assert process.stderr == ""
    lines = process.stdout.splitlines()
    place = lines.index("fails      Cloudflare's token: CLOUDFLARE_API_TOKEN is not set")
    assert lines[place + 1].startswith("           CLOUDFLARE_API_TOKEN, or `pulumi config set --secret")
    assert lines[0].startswith("ok         Pulumi CLI: ")
    assert re.fullmatch(r"1 fails, 0 warning, \d not known, \d+ ok", lines[-1])


def test_no_secret_is_printed_and_none_is_in_arguments(operator: DoctorsOperator):
    environment = logged(operator)
    texts = [operator.start(*flags, *AT_HOME, **environment) for flags in ((), ("--json",))]
    values = [*operator.stack.secrets().values(), TOKEN]
    lines = [line for value in values for line in value.splitlines() if len(line) > 20 and "KEY-----" not in line]
    assert len(lines) > 5
    arguments = Path(environment["LOG"]).read_text()
    assert "config --stack" in arguments
    printed = "".join(process.stdout + process.stderr for process in texts)
    assert [line for line in lines if line in printed] == []
    assert [line for line in lines if line in arguments and line != TOKEN] == []


def logged(operator: DoctorsOperator) -> dict[str, str]:
    """An environment whose pulumi and sops write down how they are called."""
    directory = operator.stack.directory.with_name("logged")
    directory.mkdir()
    for name in ("pulumi", "sops"):
        shutil.copy(Path(__file__).with_name("logged.sh"), directory / name)
    path = operator.stack.environment["PATH"]
    return {
        "PATH": f"{directory}:{path}",
        "REAL": str(programs.build(print)),
        "LOG": str(directory / "log"),
    }


def test_it_asks_hetzner_for_all_at_the_same_time_and_does_not_import_pulumi(
    operator: DoctorsOperator, monkeypatch: pytest.MonkeyPatch
):
    barrier, respond = threading.Barrier(5), operator.cloud.emulator.respond

    def together(*request: Any) -> Any:
        barrier.wait(timeout=30)
        return respond(*request)

    with monkeypatch.context() as patch:
        patch.setattr(operator.cloud.emulator, "respond", together)
        process = operator.start(*AT_HOME, PYTHONPROFILEIMPORTTIME="1")
    assert "Hetzner's token: accepted" in process.stdout
    assert "scripts.health.hetzner" in process.stderr
    assert not re.search(r"\| +(pulumi|components|grpc)\b", process.stderr)


def test_in_a_terminal_it_shows_what_it_looks_at(operator: DoctorsOperator):
    ours, theirs = pty.openpty()
    command = operator.command(*AT_HOME)
    with subprocess.Popen(command, env=operator.stack.environment, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        assert process.stdout
        progress = b"".join(iter(lambda: read(ours), b"")).decode()
        output = process.stdout.read().decode()
    os.close(ours)
    assert "looking at: Pulumi CLI, " in progress
    assert "looking at" not in output
    assert progress.endswith("\r\033[K")


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 10_000)
    except OSError:
        return b""


def test_interrupted_it_ends_at_once_in_a_sentence(operator: DoctorsOperator):
    operator.cloud.emulator.fail(Fault("GET /servers", delay=8))
    process = subprocess.Popen(
        operator.command(*AT_HOME), env=operator.stack.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    eventually(lambda: not operator.cloud.emulator.faults, "the request that waits", 30)
    time.sleep(0.5)
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert time.monotonic() - start < 5
    assert (process.returncode, errors) == (1, b"scripts/doctor: interrupted\n")
