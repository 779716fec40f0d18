"""The traces that something of a rehearsal leaves on the host, whatever else runs on it."""

import math
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rehearsal.sandbox import capsule, cgroups

SPACES = ("pid", "mnt", "net", "uts")


def now() -> float:
    """In clock ticks since boot, as /proc says when a process began."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Traces:
    """The name of one rehearsal, and its namespaces; `of` wants it while it runs."""

    name: str
    spaces: frozenset[str]

    @staticmethod
    def of(outermost: int) -> "Traces":
        keeper = capsule._children(outermost)[0]
        first = Path(f"/proc/{capsule.first(outermost)}")
        return Traces(cgroups.name_of(keeper), frozenset(os.readlink(first / "ns" / kind) for kind in SPACES))

    def left(self, begun_before: float = math.inf) -> list[str]:
        """The traces that remain; of processes, those that began before that moment, as `now` gives it.

        What begins later may have got namespaces of the same numbers: the kernel gives them out again.
        """
        groups = [str(tree / self.name) for tree in cgroups.hierarchies() if (tree / self.name).exists()]
        mounts = [line for line in Path("/proc/self/mounts").read_text().splitlines() if "/run/rehearsal" in line]
        processes = [path for path in Path("/proc").glob("[0-9]*") if self._is_of(path, begun_before)]
        return [*map(str, processes), *groups, *mounts]

    def _is_of(self, process: Path, begun_before: float) -> bool:
        """A dead process that the machine's process 1 has not collected yet does not count."""
        with suppress(OSError):
            start = cgroups.started(int(process.name))
            return (
                start is not None
                and int(start) <= begun_before
                and (
                    any(os.readlink(process / "ns" / kind) in self.spaces for kind in SPACES)
                    or self.name in (process / "cgroup").read_text()
                    or self.name.encode() in (process / "environ").read_bytes()
                )
            )
        return False
