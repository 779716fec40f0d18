"""Two throw-away devices, which join, ping each other and leave, by a user and a key of their own."""

import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ..commands import PROGRAM
from .api import HeadscaleApi
from .report import Check, NotChecked, Wrong
from .target import Target

DAEMON = str(Path(__file__).with_name("tailscaled.sh"))
PREFIX = "verify-throw-away-"
# Of this checkout on this machine, so that another operator's run is left alone.
USER = PREFIX + hashlib.sha256(f"{platform.node()} {PROGRAM}".encode()).hexdigest()[:8]
ABANDONED = timedelta(hours=1)
START, JOIN, PING, LEAVE = 15.0, 45.0, 30.0, 20.0
PONG = re.compile(r"^pong from .*$", re.MULTILINE)
STRANGER = "no matching peer"


class ThrowAwayDevice:
    """A tailscaled of its own; `directory` holds its socket, its log and for a while its key."""

    def __init__(self, target: Target, number: int) -> None:
        self.name = f"verify-{number}"
        self.directory = Path(tempfile.mkdtemp(prefix="verify-"))
        self._tailscale = ("tailscale", f"--socket={self.directory}/socket")
        trust = {"SSL_CERT_FILE": str(target.authority)} if target.authority else {}
        self._environment = os.environ | trust | {"TS_NO_LOGS_NO_SUPPORT": "true"}
        # Apart from the terminal, whose Ctrl-C would end it before it has logged out.
        self._process = subprocess.Popen(
            [DAEMON, str(self.directory)], stdin=subprocess.PIPE, env=self._environment, start_new_session=True
        )

    def run(self, *arguments: str, timeout: float = JOIN) -> subprocess.CompletedProcess[str]:
        command = [*self._tailscale, *arguments]
        try:
            return subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout,
                env=self._environment,
            )
        except subprocess.TimeoutExpired:
            raise Wrong(
                f"`tailscale {arguments[0]}` has no answer after {timeout:.0f} s; {self.last_words()}"
            ) from None

    def begin_to_join(self, server: str, key: str) -> subprocess.Popen[str]:
        _await((self.directory / "socket").exists, START, f"tailscaled does not start; {self.last_words()}")
        file = self.directory / "key"
        file.touch(mode=0o600)
        file.write_text(key)
        flags = (f"--login-server=https://{server}", f"--auth-key=file:{file}", f"--hostname={self.name}")
        command = [*self._tailscale, "up", *flags, f"--timeout={JOIN:.0f}s"]
        null, pipe = subprocess.DEVNULL, subprocess.PIPE
        return subprocess.Popen(command, stdin=null, stdout=null, stderr=pipe, text=True, env=self._environment)

    def has_joined(self, joining: subprocess.Popen[str]) -> str:
        """The device's address."""
        _, errors = joining.communicate(timeout=JOIN + START)
        (self.directory / "key").unlink()
        if joining.returncode:
            raise Wrong(f"`tailscale up`: {errors.strip()}; {self.last_words()}")
        return self.address()

    def address(self) -> str:
        return self.run("ip", "-4").stdout.strip()

    def ping(self, address: str, kind: str) -> str:
        """All that one ping printed."""
        answer = self.run("ping", kind, "--until-direct=false", "-c", "1", "--timeout=3s", address)
        return answer.stdout + answer.stderr

    def leave(self) -> None:
        if (answer := self.run("logout", timeout=LEAVE)).returncode:
            raise Wrong(f"`tailscale logout`: {answer.stderr.strip()}")

    def end(self) -> None:
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(LEAVE)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def last_words(self) -> str:
        with suppress(OSError):
            lines = (self.directory / "log").read_text(errors="replace").splitlines()
            return f"tailscaled said last: {' / '.join(lines[-3:])}"
        return "tailscaled said nothing"


class ThrowAway:
    """The devices with their user and key; after `end` nothing of them is left, on this machine or on the server."""

    def __init__(self, target: Target, api: HeadscaleApi) -> None:
        self._target, self._api = target, api
        self._devices: list[ThrowAwayDevice] = []
        self._addresses: list[str] = []

    def checks(self) -> Iterator[Check]:
        yield Check("two throw-away devices join", self.join)
        yield Check("one pings the other through the tailnet", self.ping)
        yield Check("they leave", self.leave)
        yield Check("their user and key are gone", self.end)

    def join(self) -> str:
        remnant = self._remove()
        user = self._api.make_user(USER)
        key = self._api.make_key(user)
        self._devices = [ThrowAwayDevice(self._target, number) for number in (1, 2)]
        joining = [device.begin_to_join(self._target.headscale, key) for device in self._devices]
        both = zip(self._devices, joining, strict=True)
        self._addresses = [device.has_joined(process) for device, process in both]
        after = ", after the removal of what a killed run left" if remnant else ""
        return f"{', '.join(self._addresses)}{after}"

    def ping(self) -> str:
        self._require_joined()
        deadline = time.monotonic() + PING
        while True:
            one, other = self._devices[0], self._addresses[1]
            icmp = one.ping(other, "--icmp")
            if pong := PONG.search(icmp):
                return pong[0]
            tsmp = one.ping(other, "--tsmp")
            if time.monotonic() > deadline or (PONG.search(tsmp) and not PONG.search(one.ping(other, "--icmp"))):
                raise failure(icmp, tsmp, self._all_online())

    def leave(self) -> str:
        self._require_joined()
        for device in self._devices:
            device.leave()
        _await(lambda: not self._api.nodes(USER), LEAVE, "headscale still lists them after `tailscale logout`")
        return "headscale forgot them"

    def end(self) -> str:
        """End the devices, and remove user and key; again and again the same."""
        for device in self._devices:
            device.end()
        self._devices.clear()
        self._remove()
        if [user for user in self._api.users() if user["name"] == USER] or self._api.keys(USER):
            raise Wrong(
                f"headscale still has them; on the server, `headscale users destroy --name {USER}` removes them"
            )
        return USER

    def _remove(self) -> bool:
        """Remove the user of this run, or of a former one of this checkout, and what others have abandoned."""
        users = [user for user in self._api.users() if user["name"] == USER or _is_abandoned(user)]
        for user in users:
            self._api.remove_user(user)
        return bool(users)

    def _require_joined(self) -> None:
        if not self._addresses:
            raise NotChecked("the devices did not join")

    def _all_online(self) -> bool:
        nodes = self._api.nodes(USER)
        return len(nodes) == len(self._devices) and all(node.get("online") for node in nodes)


def failure(icmp: str, tsmp: str, online: bool) -> Exception:
    """Judge a ping without an answer: TSMP passes the policy of its receiver, which drops ICMP.

    A device knows only those peers that the policy lets it see.
    """
    if PONG.search(tsmp):
        return NotChecked("the policy forbids it: the tunnel between them works, and its end drops the packet")
    if online and STRANGER in icmp + tsmp:
        return NotChecked("the policy forbids it: headscale has both online, and does not tell one of the other")
    return Wrong(f"no answer, and the policy does not forbid it: {' '.join((icmp + tsmp).split())[:300]}")


@contextmanager
def throw_away(target: Target, api: HeadscaleApi) -> Iterator[ThrowAway]:
    """The devices until the block ends, however it ends; signals that come meanwhile do not keep the end up."""
    devices = ThrowAway(target, api)
    with ExitStack() as end:
        end.callback(_end, devices)
        yield devices


def _end(devices: ThrowAway) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with suppress(Wrong, NotChecked, OSError):
        devices.end()


def _is_abandoned(user: dict[str, str]) -> bool:
    created = datetime.fromisoformat(re.sub(r"\.\d+", "", user["createdAt"]))
    return bool(re.fullmatch(PREFIX + "[0-9a-f]{8}", user["name"])) and datetime.now(UTC) - created > ABANDONED


def _await(fact: Callable[[], object], seconds: float, otherwise: str) -> None:
    deadline = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > deadline:
            raise Wrong(otherwise)
        time.sleep(0.2)
