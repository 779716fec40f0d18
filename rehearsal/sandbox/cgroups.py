"""Control groups of a rehearsal: one directory per run in every hierarchy, below it one per server.

Servers need their own: systemd-nspawn puts all containers started in one group into one payload group.
Limits (memory, processor) are not set.
"""

import os
import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from rehearsal.sandbox.wait import eventually

TOP = Path("/sys/fs/cgroup")
NAME = re.compile(r"rh-(\d+)-(\d+)-(\d+)")
JOIN = str(Path(__file__).with_name("in-cgroup.sh"))


def hierarchies() -> list[Path]:
    """The trees that systemd knows: the unified one alone, or, on a hybrid host, beside its own."""
    if (TOP / "cgroup.procs").exists():
        return [TOP]
    return [TOP / name for name in ("unified", "systemd") if (TOP / name).is_dir()]


def started(pid: int) -> str | None:
    """The start time of a living process, in clock ticks since boot; with its number that names it for good."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def name_of(keeper: int) -> str:
    """The group of the rehearsal that a process keeps; its number means something in one PID namespace only."""
    return f"rh-{_numbers()}-{keeper}-{started(keeper)}"


def _numbers() -> int:
    return os.stat("/proc/self/ns/pid").st_ino


def own_name() -> str:
    return name_of(os.getpid())


def create(name: str) -> list[Path]:
    """Make the group `name` ("run" or "run/server") in every hierarchy."""
    groups = [tree / name for tree in hierarchies()]
    for group in groups:
        group.mkdir(parents=True, exist_ok=True)
    return groups


def command(groups: Iterable[Path], argv: Iterable[str]) -> list[str]:
    """The command that joins the groups and then becomes `argv`: no other code between fork and exec."""
    return [JOIN, " ".join(map(str, groups)), *argv]


def destroy(name: str) -> None:
    """Kill whatever is in the group `name` and remove it; what does not exist is fine."""
    for tree in hierarchies():
        if (tree / name).exists():
            kill(tree / name)
            eventually(partial(_remove, tree / name), f"cgroup {tree / name} to be empty", timeout=10)


def kill(group: Path) -> None:
    if (group / "cgroup.kill").exists():
        (group / "cgroup.kill").write_text("1")


def _remove(group: Path) -> bool:
    for directory, _, _ in os.walk(group, topdown=False):
        Path(directory).rmdir()
    return not group.exists()


def sweep() -> list[str]:
    """Remove the groups of rehearsals whose keeper is gone; all others stay."""
    matches = {path.name for tree in hierarchies() for path in tree.iterdir() if NAME.fullmatch(path.name)}
    dead = sorted(name for name in matches if not _alive(name))
    for name in dead:
        destroy(name)
    return dead


def _alive(name: str) -> bool:
    """True as far as can be seen from here: a rehearsal in another container has another one's numbers."""
    numbers, pid, start = name.split("-")[1:]
    return int(numbers) != _numbers() or started(int(pid)) == start
