"""Secrets where they must not be: what they look like, and how files and processes are searched for them."""

import base64
import os
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

OWN = os.readlink("/proc/self/ns/pid") if Path("/proc/self/ns/pid").exists() else ""
PAUSE = 0.005
LOOKS = 20


def forms(secret: str) -> Iterator[str]:
    """A secret as it is, and what base64 makes of it inside something larger, which depends on where it begins."""
    yield secret
    for before in range(3):
        yield base64.b64encode(b"." * before + secret.encode()).decode()[4:-4]


def secrets_in(text: bytes, secrets: Mapping[str, str]) -> set[str]:
    """The names of the secrets that `text` holds in any form."""
    return {name for name, secret in secrets.items() if any(form.encode() in text for form in forms(secret))}


def files_with(secrets: Mapping[str, str], places: Iterable[Path]) -> dict[Path, set[str]]:
    """Every file below `places` that holds secrets, with their names."""
    patterns = "\n".join(form for secret in secrets.values() for form in forms(secret))
    search = ["grep", "--recursive", "--files-with-matches", "--text", "--fixed-strings", "--devices=skip", "--file=-"]
    there = [str(place) for place in places if place.exists()]
    process = subprocess.run([*search, *there], input=patterns, capture_output=True, text=True)
    assert process.returncode in (0, 1) or "No such file" in process.stderr, process.stderr
    return {Path(line): secrets_in(Path(line).read_bytes(), secrets) for line in process.stdout.splitlines()}


@dataclass(frozen=True)
class Visible:
    """A process's public side: `what` is "arguments" or "environment", `side` is where it ran."""

    side: str
    what: str
    text: bytes


@dataclass
class Watch:
    """Reads the arguments and the environment of all processes as often as it can while the block lasts.

    A process that lives for less than one look may be missed. Servers have process namespaces of their own.
    """

    outputs: set[Visible] = field(default_factory=set)
    processes: int = 0
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> "Watch":
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread:
            self._thread.join()

    def found(self, secrets: Mapping[str, str]) -> dict[Visible, set[str]]:
        return {output: names for output in self.outputs if (names := secrets_in(output.text, secrets))}

    def _watch(self) -> None:
        looks: dict[str, int] = {}
        while not self._over.wait(PAUSE):
            alive = [name for name in os.listdir("/proc") if name.isdecimal()]
            looks = {pid: looks.get(pid, 0) + 1 for pid in alive}
            # A process shows its parent's arguments until it executes its own program.
            for pid in (pid for pid in alive if looks[pid] <= LOOKS):
                self.processes += looks[pid] == 1
                self.outputs.update(_look(pid))


def _look(pid: str) -> Iterator[Visible]:
    try:
        side = "operator" if os.readlink(f"/proc/{pid}/ns/pid") == OWN else "server"
        for what, name in (("arguments", "cmdline"), ("environment", "environ")):
            yield Visible(side, what, Path(f"/proc/{pid}/{name}").read_bytes())
    except OSError:
        return
