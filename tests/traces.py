"""By what the host would know that something of a rehearsal is left, whatever else runs on it."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rehearsal import capsule, cgroups

SPACES = ("pid", "mnt", "net", "uts")


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

    def left(self) -> list[str]:
        groups = [str(tree / self.name) for tree in cgroups.hierarchies() if (tree / self.name).exists()]
        mounts = [line for line in Path("/proc/self/mounts").read_text().splitlines() if "/run/rehearsal" in line]
        return [*(str(path) for path in Path("/proc").glob("[0-9]*") if self._is_of(path)), *groups, *mounts]

    def _is_of(self, process: Path) -> bool:
        """A dead process that the machine's process 1 has not collected yet does not count."""
        with suppress(OSError):
            return cgroups.started(int(process.name)) is not None and (
                any(os.readlink(process / "ns" / kind) in self.spaces for kind in SPACES)
                or self.name in (process / "cgroup").read_text()
                or self.name.encode() in (process / "environ").read_bytes()
            )
        return False
