"""The capsule: the rehearsal runs itself again in namespaces of its own (mount, pid, net, uts).

    outermost    what the user started; passes signals on, has the keeper killed with it
    keeper       removes the control groups when everything else is over, however it ended
    unshare      dies with the keeper, and all below dies with it
    reaper       process 1 of the capsule: collects the dead
    program      the rest of the rehearsal, as root of a /run and an /etc that nobody else sees

Nothing of this is on the host's disk. The programs inside still have the user's files and devices: it keeps
things apart and does not protect from a hostile program.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from rehearsal.sandbox import cgroups

MARK = "REHEARSAL_CAPSULE"
RUN = Path("/run/rehearsal")
PASSED_ON = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
ORPHANED = signal.SIGUSR1
WAITED_FOR = PASSED_ON | {ORPHANED, signal.SIGCHLD}
IMPATIENCE = 1.0
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
DIE_TOGETHER = ("setpriv", "--pdeathsig", "KILL")
UNSHARE = (
    "unshare",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child=SIGKILL",
    "--mount-proc",
    "--net",
    "--uts",
    "--",
)
ENVIRONMENT = {
    *("HOME", "LANG", "LC_ALL", "LOGNAME", "NO_COLOR", "SHELL", "TERM", "TZ", "USER", "XDG_CACHE_HOME"),
    *("PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PYTHONUNBUFFERED"),
}


@dataclass(frozen=True)
class Run:
    """One rehearsal, seen from inside: `path` is on memory and vanishes with the capsule."""

    name: str
    path: Path

    def cgroups(self, name: str) -> list[Path]:
        return cgroups.create(f"{self.name}/{name}")

    def directory(self, name: str) -> Path:
        path = self.path / name
        path.mkdir(parents=True, exist_ok=True)
        return path


def enter(keep: Iterable[str] = ()) -> Run:
    """Return inside a new capsule; outside, never return but exit as the program inside did.

    Call it first, from the main thread. The environment inside is what ENVIRONMENT and `keep` name, and PATH:
    certificates, proxies, tokens and settings of the caller's other tools stay outside.
    """
    if os.environ.get(MARK) is None:
        _outside(keep)
    if os.getpid() != 1:
        raise SystemExit("A rehearsal was started inside a rehearsal; start it from outside.")
    return _inside(os.environ[MARK])


def inside() -> bool:
    return MARK in os.environ


def _outside(keep: Iterable[str]) -> NoReturn:
    if os.geteuid() != 0:
        raise SystemExit("The rehearsal makes namespaces, mounts and containers: start it as root.")
    cgroups.sweep()
    signal.pthread_sigmask(signal.SIG_BLOCK, WAITED_FOR)
    outermost = os.getpid()
    keeper = os.fork()
    if keeper == 0:
        os._exit(_keep(outermost, keep))
    sys.exit(_supervise(keeper, lambda number: os.kill(keeper, number)))


def _keep(outermost: int, keep: Iterable[str]) -> int:
    # A session of its own: Ctrl-C reaches only the outermost process, so the end has one order.
    os.setsid()
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    libc.prctl(PR_SET_PDEATHSIG, ORPHANED)
    if os.getppid() != outermost:
        return 128 + signal.SIGKILL
    name = cgroups.own_name()
    argv = [*DIE_TOGETHER, *UNSHARE, sys.executable, *sys.orig_argv[1:]]
    cgroups.create(f"{name}/capsule")
    unshare = os.posix_spawnp(argv[0], argv, _environment(keep) | {MARK: name})
    try:
        return _supervise(unshare, _Forward(unshare))
    finally:
        cgroups.destroy(name)
        _collect_all()


def _environment(keep: Iterable[str]) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in ENVIRONMENT | set(keep) if name in os.environ}
    return inherited | {"PATH": os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"}


@dataclass
class _Forward:
    """The first signal asks the program to end; a second one, given on purpose, does not ask."""

    unshare: int
    asked: float | None = None

    def __call__(self, number: int) -> None:
        first = _children(self.unshare)
        impatient = self.asked is not None and time.monotonic() - self.asked > IMPATIENCE
        if number == ORPHANED or impatient or not first:
            os.kill(self.unshare, signal.SIGKILL)
        else:
            os.kill(first[0], number)
        self.asked = self.asked or time.monotonic()


def first(outermost: int) -> int | None:
    """The process 1 of the capsule that `outermost` started, as the host numbers it; None while there is none."""
    pid = outermost
    try:
        for _ in ("keeper", "unshare", "reaper"):
            pid = _children(pid)[0]
    except (OSError, IndexError):
        return None
    return pid


def command(first: int, directory: str) -> list[str]:
    """The words before a command that run it in the directory of the capsule whose process 1 is `first`."""
    return ["nsenter", f"--target={first}", "--mount", "--pid", "--net", "--uts", f"--wdns={directory}", "--"]


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _supervise(pid: int, forward: Callable[[int], None]) -> int:
    """Pass signals on and collect the dead until `pid` is among them; return its status as a shell would."""
    while True:
        number = signal.sigwait(WAITED_FOR)
        if number != signal.SIGCHLD:
            forward(number)
            continue
        status = _collect(pid)
        if status is not None:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _collect(pid: int) -> int | None:
    while True:
        try:
            gone, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if gone in (0, pid):
            return status if gone else None


def _collect_all() -> None:
    """Wait for what is still dying: as a subreaper the keeper inherits the capsule of a killed `unshare`."""
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def _inside(name: str) -> Run:
    for group in cgroups.create(f"{name}/capsule"):
        (group / "cgroup.procs").write_text("0")
    program = os.fork()
    if program:
        os._exit(_supervise(program, lambda number: os.kill(program, number)))
    for number in PASSED_ON:
        signal.signal(number, _end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, WAITED_FOR)
    socket.sethostname("operator")
    _mount()
    os.environ["TMPDIR"] = str(RUN / "tmp")
    return Run(name=name, path=RUN)


def _end(number: int, _: object) -> None:
    # Not SIG_IGN: what the clean-up starts would inherit that and could not be ended.
    for other in PASSED_ON:
        signal.signal(other, lambda *_: None)
    raise SystemExit(128 + number)


def _mount() -> None:
    """An empty /run also hides the sockets of the host's resolver, name cache and D-Bus."""
    _run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    layers = RUN / "etc"
    for directory in (layers / "upper", layers / "work", RUN / "tmp", Path("/run/netns")):
        directory.mkdir(parents=True)
    options = f"lowerdir=/etc,upperdir={layers}/upper,workdir={layers}/work"
    _run("mount", "-t", "overlay", "-o", options, "overlay", "/etc")
    write_etc("hosts", "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 operator\n")
    write_etc("nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n")


def write_etc(name: str, text: str) -> None:
    """Replace a file of the capsule's own /etc, also where the host has a link there."""
    path = Path("/etc") / name
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
