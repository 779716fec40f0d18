"""A living rehearsal from outside: start it in the background, find it, go in, end it.

A lock says whether one lives: `up` takes it, the capsule's outermost process and its keeper go on holding it, and the
kernel gives it back however these end. There is one per directory HOME.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, NoReturn

from rehearsal.living import socket as door
from rehearsal.operator.stack import PROGRAM
from rehearsal.sandbox import capsule, cgroups
from rehearsal.sandbox.wait import eventually
from rehearsal.setup.cache import ROOT
from rehearsal.world import prepare

HOME = Path(os.environ.get("REHEARSAL_LIVING") or ROOT / "living")
LOCK, LOG = HOME / "lock", HOME / "log"
READY, ORDERLY, KILLED = 900, 30, 15
NONE = "no rehearsal lives; `python -m rehearsal up` starts one"


@dataclass(frozen=True)
class Owner:
    """The process that answers for a rehearsal: the outermost process, named for good by number and start."""

    pid: int
    started: str | None
    since: str

    @staticmethod
    def of(pid: int) -> "Owner":
        return Owner(pid, cgroups.started(pid), datetime.now().astimezone().isoformat(sep=" ", timespec="seconds"))

    def send(self, number: signal.Signals) -> None:
        if self.started is not None and cgroups.started(self.pid) == self.started:
            os.kill(self.pid, number)

    def ask(self, question: str) -> Any:
        return door.ask(self.first(), question)

    def first(self) -> int:
        """The capsule's process 1."""
        first = capsule.first(self.pid)
        if first is None:
            raise door.Closed("the capsule is not there")
        return first


def find() -> Owner | None:
    """The rehearsal that lives, begins or ends at the moment."""
    if not LOCK.exists():
        return None
    with open(LOCK) as lock:
        if _taken(lock, fcntl.LOCK_SH):
            return None
        return eventually(lambda: _read(lock), f"{LOCK} to say who holds it", timeout=2)


def _taken(lock: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(lock: IO[str]) -> Owner:
    lock.seek(0)
    return Owner(**json.loads(lock.read()))


def _write(lock: IO[str], life: Owner) -> None:
    lock.seek(0)
    lock.truncate()
    lock.write(json.dumps(asdict(life)))
    lock.flush()


def up() -> int:
    HOME.mkdir(parents=True, exist_ok=True)
    with open(LOCK, "a+") as lock:
        if not _taken(lock, fcntl.LOCK_EX):
            life = find()
            print(
                f"a rehearsal lives since {life.since if life else 'a moment ago'}; `python -m rehearsal down` ends it"
            )
            return 1
        _write(lock, Owner.of(os.getpid()))
        prepare(lambda line: print(line, flush=True))
        process = _start(lock)
        _write(lock, Owner.of(process.pid))
        try:
            return _follow(process)
        except BaseException:
            _end(Owner.of(process.pid), lambda: process.poll() is not None)
            raise


def _start(lock: IO[str]) -> subprocess.Popen[bytes]:
    """In a session of its own, so that the terminal's end and its Ctrl-C do not reach it."""
    with open(LOG, "w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "rehearsal", "live", str(lock.fileno())],
            cwd=PROGRAM,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=[lock.fileno()],
        )


def _follow(process: subprocess.Popen[bytes]) -> int:
    """Print the log until the rehearsal is ready, or over before."""
    with open(LOG) as log:

        def looked() -> bool:
            ended = process.poll() is not None
            print(log.read(), end="", flush=True)
            return ended or _ready(process.pid)

        eventually(looked, f"the rehearsal to be ready (see {LOG})", timeout=READY)
    if process.returncode is not None:
        print(f"the rehearsal ended with status {process.returncode} before it was ready; {LOG} says why")
        return 1
    status()
    print("go in: python -m rehearsal shell laptop | phone | server | operator; end it: python -m rehearsal down")
    return 0


def _ready(pid: int) -> bool:
    try:
        return bool(Owner.of(pid).ask("state")["ready"])
    except (door.Closed, door.Denied):
        return False


def status() -> int:
    life = find()
    if life is None:
        print(NONE)
        return 1
    try:
        state = life.ask("state")
    except (door.Closed, door.Denied) as error:
        print(f"a rehearsal begins or ends, since {life.since} (log: {LOG}): {error}")
        return 0
    print(f"a rehearsal {'lives' if state['ready'] else 'begins'}, since {life.since} (process {life.pid}, log: {LOG})")
    for kind in ("servers", "devices"):
        for name, details in state[kind].items():
            print(f"  {kind.removesuffix('s')} {name}: {details}")
    for url in state["urls"]:
        print(f"  {url}")
    return 0


def go(name: str, command: Sequence[str]) -> NoReturn:
    """Become `command` at the place `name` of the living rehearsal."""
    life = find()
    if life is None:
        raise SystemExit(NONE)
    try:
        place, first = life.ask(name), life.first()
    except (door.Closed, door.Denied) as error:
        raise SystemExit(f"cannot go to {name}: {error}") from error
    environment = place["environment"] | {
        "TERM": os.environ.get("TERM", "dumb"),
        "HISTFILE": "",
        "PS1": f"{name}:\\w# ",
    }
    argv = [*capsule.command(first, place["directory"]), *place["argv"], *command]
    # Python ignores it, and what is executed would inherit that.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execvpe(argv[0], argv, environment)


def down() -> int:
    life = find()
    if life is None:
        print("no rehearsal lives")
    else:
        _end(life, lambda: find() is None)
        print(f"ended the rehearsal that lived since {life.since}")
    swept = cgroups.sweep()
    if swept:
        print(f"swept what dead rehearsals left: {', '.join(swept)}")
    return 0


def _end(life: Owner, is_over: Callable[[], bool]) -> None:
    """Ask it to end, then kill it: the keeper, or the next sweep, removes what is left."""
    for number, patience in ((signal.SIGTERM, ORDERLY), (signal.SIGKILL, KILLED)):
        life.send(number)
        try:
            eventually(is_over, f"process {life.pid} and all below it to end", patience)
            return
        except TimeoutError:
            if number == signal.SIGKILL:
                raise
