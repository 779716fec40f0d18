"""People's devices: a real tailscaled with a real TUN device, each in a home network behind a router of its own kind.

What a device does is typed as its owner would type it, `join` even as the text of the stack's output.
Not modelled: other operating systems, sleep, roaming between networks, IPv6 at home, UPnP.
"""

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rehearsal.internet.network import RESOLVER, home, office, within
from rehearsal.sandbox.capsule import Run
from rehearsal.sandbox.processes import Failed, daemon
from rehearsal.sandbox.wait import eventually

SCRIPT = str(Path(__file__).with_name("device.sh"))
SOCKETS = Path("/run/tailscale")
DIRECT = re.compile(r"^pong from .* via (?!DERP)\S+:\d+ in ", re.MULTILINE)
RELAYED = re.compile(r"^pong from .* via DERP\(", re.MULTILINE)
JOIN_TIMEOUT = 60


@dataclass
class Pings:
    """The numbers of pings sent and lost; one that was still on its way at the end is neither."""

    sent: int = 0
    lost: int = 0

    def count(self, output: str) -> None:
        answered = {int(number) for number in re.findall(r"icmp_seq=(\d+) ttl=", output)}
        total = re.search(r"(\d+) packets transmitted", output)
        assert total, f"ping ended without its summary: {output[-500:]}"
        last = int(total[1])
        self.sent = last if last in answered else last - 1
        self.lost = self.sent - len(answered)


@dataclass(frozen=True)
class Device:
    """A running device; `pid` is its tailscaled, whose namespaces are the device's."""

    name: str
    pid: int
    environment: Mapping[str, str]
    log: Path

    def command(self, argv: Sequence[str]) -> list[str]:
        return ["nsenter", f"--target={self.pid}", "--net", "--mount", "--uts", "--", *argv]

    def run(self, argv: Sequence[str], timeout: float = 30) -> subprocess.CompletedProcess[str]:
        """Run a command on the device; its status is the caller's to judge."""
        return subprocess.run(
            self.command(argv),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=self.environment,
        )

    def must(self, argv: Sequence[str], timeout: float = 30) -> str:
        """Run a command that has to succeed; the error leaves out the arguments, which may hold a key."""
        process = self.run(argv, timeout)
        if process.returncode != 0:
            what = " ".join(argv[:2])
            output = (process.stderr or process.stdout).strip()
            raise Failed(f"{self.name}: {what} left with status {process.returncode}: {output} (see {self.log})")
        return process.stdout

    def join(self, command: str, timeout: float = JOIN_TIMEOUT) -> None:
        """Do what the stack's joinCommand says, word by word, and wait until the device is on the network."""
        self.must(["sh", "-c", command], timeout)
        eventually(self._running, f"{self.name} to be on the tailnet", timeout=30)

    def await_answer(self) -> None:
        eventually(self._answers, f"tailscaled of {self.name} to answer (see {self.log})", timeout=15)

    def _answers(self) -> bool:
        # The client itself would wait five seconds for a socket that is not there yet.
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(f"/proc/{self.pid}/root{SOCKETS}/tailscaled.sock")
        return True

    def status(self) -> Any:
        return json.loads(self.must(["tailscale", "status", "--json"]))

    def netcheck(self) -> Any:
        return json.loads(self.must(["tailscale", "netcheck", "--format=json"]))

    def addresses(self) -> list[str]:
        return list(self.status()["Self"]["TailscaleIPs"])

    def ping(self, address: str) -> bool:
        """One ICMP packet through the VPN's own interface; AssertionError when no answer comes."""
        process = self.run(["ping", "-n", "-c", "1", "-W", "1", address])
        assert process.returncode == 0, f"no answer from {address}: {(process.stderr or process.stdout).strip()}"
        return True

    @contextmanager
    def pinging(self, address: str) -> Iterator["Pings"]:
        """Ping five times a second for as long as the block lasts; the counts are there at its end."""
        log = self.log.with_name(f"pings-{self.name}.log")
        pings = Pings()
        with open(log, "w") as output:
            argv = self.command(["ping", "-n", "-i", "0.2", address])
            process = subprocess.Popen(argv, stdout=output, stderr=output, env=self.environment)
        try:
            yield pings
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(5)
            pings.count(log.read_text())

    def resolve(self, name: str) -> str:
        """The IPv4 address that a program on the device gets for a name."""
        process = self.run(["getent", "ahostsv4", name])
        assert process.returncode == 0, f"getent knows no {name}"
        return process.stdout.split()[0]

    def path_to(self, peer: "Device") -> str:
        """The path of packets once the two have tried for a while: "direct" or "relay"."""
        address = peer.addresses()[0]
        argv = ["tailscale", "ping", "--until-direct", "-c", "6", "--timeout", "2s", address]
        pongs = self.run(argv).stdout
        if DIRECT.search(pongs):
            return "direct"
        assert RELAYED.search(pongs), f"no answer from {peer.name} on any path: {pongs.strip()}"
        return "relay"

    def _running(self) -> bool:
        state = self.status()["BackendState"]
        assert state == "Running", f"state {state}"
        return True


@contextmanager
def device(name: str, *, number: int, run: Run, programs: Path, ca_bundle: Path, nat: str = "easy") -> Iterator[Device]:
    """Switch a device on in home `number` (1 to 99); `nat` is a key of network.NATS."""
    with (
        home(name, number, nat) as place,
        _switched_on(name, place, "tailscale0", run, programs, ca_bundle) as own,
    ):
        own.await_answer()
        yield own


@contextmanager
def household(
    names: Sequence[str], *, number: int, run: Run, programs: Path, ca_bundle: Path
) -> Iterator[list[Device]]:
    """Switch many devices on behind one address; they share the home's namespace, so they have no interface."""
    with home(f"home{number}", number, "easy") as place, ExitStack() as end:
        yield _all_switched_on(end, {name: place for name in names}, run, programs, ca_bundle)


@contextmanager
def workplaces(
    names: Sequence[str], *, number: int, run: Run, programs: Path, ca_bundle: Path
) -> Iterator[list[Device]]:
    """Switch many devices on in an office, each at an IPv6 address of its own in one network."""
    with office(f"office{number}", number, names) as places, ExitStack() as end:
        yield _all_switched_on(end, dict(zip(names, places, strict=True)), run, programs, ca_bundle)


def _all_switched_on(
    end: ExitStack, places: Mapping[str, str], run: Run, programs: Path, ca_bundle: Path
) -> list[Device]:
    start = partial(_switched_on, tun="userspace-networking", run=run, programs=programs, ca_bundle=ca_bundle)
    devices = [end.enter_context(start(name, place)) for name, place in places.items()]
    for each in devices:
        each.await_answer()
    return devices


@contextmanager
def _switched_on(name: str, place: str, tun: str, run: Run, programs: Path, ca_bundle: Path) -> Iterator[Device]:
    directory, log = run.directory(f"devices/{name}"), run.directory("logs") / f"device-{name}.log"
    for part in ("upper", "work", "state"):
        run.directory(f"devices/{name}/{part}")
    SOCKETS.mkdir(exist_ok=True)
    environment = _environment(programs, ca_bundle)
    argv = [*within(place), "unshare", "--mount", "--uts", SCRIPT, name, str(directory), RESOLVER]
    with daemon([*argv, *_tailscaled(directory, tun)], log=log, environment=environment) as process:
        yield Device(name=name, pid=process.pid, environment=environment, log=log)


def _environment(programs: Path, ca_bundle: Path) -> Mapping[str, str]:
    return {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": "/root",
        "SSL_CERT_FILE": str(ca_bundle),
        "TS_NO_LOGS_NO_SUPPORT": "true",
    }


def _tailscaled(directory: Path, tun: str) -> list[str]:
    state = directory / "state"
    return ["tailscaled", f"--statedir={state}", f"--state={state}/tailscaled.state", f"--tun={tun}"]
