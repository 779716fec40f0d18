"""A rehearsal to live in: what its commands do, and that nothing of it is left however it ends.

Each has a directory of its own, so that a developer's living one is neither met nor ended.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from traces import Traces, now

from rehearsal.sandbox import capsule
from rehearsal.sandbox.wait import eventually
from rehearsal.setup import requirements
from rehearsal.world import Prepared

PROGRAM = Path(__file__).resolve().parent.parent
REHEARSAL = [sys.executable, "-m", "rehearsal"]


@dataclass(frozen=True)
class Home:
    """The directory of a living rehearsal's lock and log."""

    path: Path

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        environment = os.environ | {"REHEARSAL_LIVING": str(self.path)}
        return subprocess.Popen(
            [*REHEARSAL, *arguments],
            cwd=PROGRAM,
            env=environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def command(self, *arguments: str, expect: int = 0) -> str:
        with self.start(*arguments) as process:
            output = process.communicate(timeout=300)[0]
        assert process.returncode == expect, f"{arguments} ended with {process.returncode}:\n{output}"
        return output

    @contextmanager
    def ended(self) -> Iterator[None]:
        """A rehearsal that is ended with the block, also after an error."""
        try:
            yield
        finally:
            self.command("down")

    def log(self) -> str:
        return (self.path / "log").read_text()

    def outermost(self) -> int:
        """The process that answers for it, once it is the capsule's and no longer `up` itself."""
        pid = int(re.findall(r'"pid": (\d+)', (self.path / "lock").read_text())[0])
        if capsule.first(pid) is None:
            raise LookupError(f"process {pid} has no capsule")
        return pid


@pytest.fixture(scope="module")
def living(world: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """One that is ready, for all tests that only look."""
    home = Home(tmp_path_factory.mktemp("living"))
    with home.ended():
        home.command("up")
        traces = Traces.of(home.outermost())
        assert traces.left()
        yield home
        alive = now()
    assert traces.left(begun_before=alive) == []


def test_a_living_one_says_what_it_is(living: Home):
    status = living.command("status")
    assert re.search(r"a rehearsal lives, since \d{4}-", status)
    assert "server rehearsal-headscale: 203.0.113.10 on" in status
    assert "device laptop: Running 100." in status
    assert "device phone: Running 100." in status
    assert "https://headscale.example.org" in status


def test_there_is_one_at_a_time(living: Home):
    assert "a rehearsal lives since" in living.command("up", expect=1)
    assert "device laptop: Running" in living.command("status")


def test_every_place_can_be_gone_to(living: Home):
    hosts = {"laptop": "laptop", "phone": "phone", "server": "rehearsal-headscale", "operator": "operator"}
    assert {place: living.command("run", place, "hostname").strip() for place in hosts} == hosts
    assert "1 received" in living.command("run", "laptop", "ping", "-c1", "-W5", "phone")
    assert "no place 'attic'" in living.command("run", "attic", "hostname", expect=1)


def test_a_command_gets_its_arguments_and_its_status_comes_back(living: Home):
    for place in ("laptop", "server", "operator"):
        assert living.command("run", place, "--", "printf", "[%s]", "a b", "--help", expect=0) == "[a b][--help]"
        living.command("run", place, "sh", "-c", "exit 7", expect=7)


def test_pulumi_works_for_the_operator_without_options(living: Home):
    preview = living.command("run", "operator", "pulumi", "preview", "--expect-no-changes")
    assert re.search(r"\d+ unchanged", preview)
    assert living.command("run", "operator", "pulumi", "stack", "output", "joinCommand").strip() == "[secret]"
    key = living.command("run", "operator", "pulumi", "stack", "output", "preauthKey", "--show-secrets").strip()
    assert key.startswith("hskey-auth-")
    assert key not in living.log()


def test_the_operators_settings_are_the_stacks_own(living: Home):
    checked_in = (PROGRAM / "Pulumi.rehearsal.yaml").read_text()
    living.command("run", "operator", "pulumi", "config", "set", "headscale:preauthKeySerial", "1")
    assert living.command("run", "operator", "pulumi", "config", "get", "headscale:preauthKeySerial").strip() == "1"
    assert (PROGRAM / "Pulumi.rehearsal.yaml").read_text() == checked_in


def test_secrets_are_in_nobodys_arguments(living: Home):
    names = ("PULUMI_CONFIG_PASSPHRASE", "HCLOUD_TOKEN", "CLOUDFLARE_API_TOKEN")
    secrets = living.command("run", "operator", "printenv", *names).split()
    assert len(secrets) == len(names)
    with living.start("run", "operator", "sh", "-c", "echo here; sleep 100") as visit:
        assert visit.stdout and visit.stdout.readline() == "here\n"
        lines = [arguments(process) for process in Path("/proc").glob("[0-9]*")]
        # Killing the outer nsenter alone would leave the sleep behind.
        living.command("run", "operator", "sh", "-c", "kill $(pgrep -x sleep -n)")
    assert any("echo here" in line for line in lines)
    assert not [line for line in lines if any(secret in line for secret in secrets)]


def arguments(process: Path) -> str:
    try:
        return (process / "cmdline").read_text(errors="replace")
    except OSError:
        return ""


VICTIMS = ("up", "outermost", "keeper", "outermost and keeper", "program")


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("moment", ["", "server-server created"])
def test_nothing_is_left_of_one_that_was_killed(living: Home, tmp_path: Path, victim: str, moment: str):
    """Slow by design: killed as soon as its capsule stands, or in the midst of `pulumi up`, next to a living one."""
    home = Home(tmp_path)
    with home.start("up") as up, home.ended():
        outermost = eventually(home.outermost, "the capsule to stand", timeout=60)
        traces = Traces.of(outermost)
        eventually(lambda: moment in home.log(), f"{moment!r} in the log", timeout=60)
        victims, alive = pids_of(victim, up.pid, outermost), now()
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        output = home.command("down")
        assert traces.left(begun_before=alive) == [], output
    assert up.returncode == (-signal.SIGKILL if victim == "up" else 1)
    assert "no rehearsal lives" in home.command("status", expect=1)
    assert "pass" in living.command("run", "laptop", "curl", "-sS", "https://headscale.example.org/health")


def pids_of(victim: str, up: int, outermost: int) -> list[int]:
    keeper = capsule._children(outermost)[0]
    match victim:
        case "up":
            return [up]
        case "outermost":
            return [outermost]
        case "keeper":
            return [keeper]
        case "outermost and keeper":
            return [outermost, keeper]
    first = capsule.first(outermost) or 0
    return eventually(lambda: capsule._children(first)[:1], "the program to begin", timeout=10)


def test_two_live_side_by_side_at_the_same_addresses(living: Home, tmp_path: Path):
    home = Home(tmp_path)
    with home.ended():
        home.command("up")
        traces = Traces.of(home.outermost())
        scan = ["run", "operator", "ssh-keyscan", "-T5", "-ted25519", "203.0.113.10"]
        keys = [side.command(*scan).splitlines()[-1] for side in (living, home)]
        assert all(" ssh-ed25519 " in key for key in keys)
        assert keys[0] != keys[1]
        visit = home.start("run", "laptop", "sleep", "1000")
        eventually(lambda: "sleep" in home.command("run", "laptop", "pgrep", "-l", "sleep"), "the sleep", timeout=10)
        alive = now()
        os.kill(home.outermost(), signal.SIGKILL)
        eventually(lambda: not traces.left(begun_before=alive), "the keeper to have cleaned up", timeout=10)
        with visit:
            assert visit.wait(5) != 0
        assert "no rehearsal lives" in home.command("down")
    assert "Running" in living.command("status")


def examine(*before: str, **environment: str) -> subprocess.CompletedProcess[str]:
    argv = [*before, *REHEARSAL, "check-machine"]
    return subprocess.run(argv, cwd=PROGRAM, capture_output=True, text=True, env=os.environ | environment)


def test_the_check_of_the_machine_names_programs_that_are_missing_and_what_brings_them():
    process = examine(PATH="/nonexistent")
    assert process.returncode == 1
    assert "missing: the program git\n         apt-get install git\n" in process.stdout
    assert "missing: the program go\n" in process.stdout


@pytest.mark.usefixtures("world")
def test_the_check_of_the_machine_tries_the_kernel():
    able = examine()
    unable = examine("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")
    assert "namespaces" not in able.stdout
    assert unable.returncode == 1
    assert "missing: namespaces (unshare" in unable.stdout


def test_the_check_of_the_machine_and_the_set_up_name_the_same_packages():
    listed = re.search(r"packages=\((.*?)\)", (PROGRAM / "scripts/install").read_text(), re.DOTALL)
    assert listed
    assert requirements.PACKAGES.keys() | {"netbase"} <= set(listed[1].split())


@pytest.mark.parametrize(
    ("where", "name", "value", "words"),
    [
        (requirements.sys, "platform", "darwin", "needs Linux"),
        (requirements.os, "geteuid", lambda: 1000, "needs root"),
        (requirements, "TUN", Path("/dev/null/tun"), "/dev/null/tun is missing"),
    ],
)
def test_it_refuses_in_one_sentence(monkeypatch: pytest.MonkeyPatch, where, name: str, value, words: str):
    monkeypatch.setattr(requirements.os, "geteuid", lambda: 0)
    monkeypatch.setattr(where, name, value)
    with pytest.raises(SystemExit, match=words) as refusal:
        requirements.insist()
    assert re.fullmatch(r"[^\n]+[^.]\.", str(refusal.value))


def test_the_script_refuses_before_it_installs_anything(tmp_path: Path):
    (tmp_path / "uname").write_text("#!/bin/sh\necho Darwin\n")
    (tmp_path / "uname").chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    process = subprocess.run([PROGRAM / "scripts/rehearse"], capture_output=True, text=True, env=environment)
    assert process.returncode == 1
    assert process.stderr.startswith("The rehearsal cannot run here: it needs Linux")
    assert process.stdout == ""
    assert len(process.stderr.splitlines()) == 1
