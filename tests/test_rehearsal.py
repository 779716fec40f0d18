"""Each story, run as its own command: what it proves is in its table, and it leaves nothing behind."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rehearsal import cgroups

PROGRAM = Path(__file__).resolve().parent.parent


STORIES = sorted(path.stem for path in (PROGRAM / "rehearsal/stories").glob("[a-z]*.py"))


@pytest.mark.rehearsal
@pytest.mark.parametrize("story", STORIES)
def test_a_story_proves_every_line_of_its_table(story: str, capfd: pytest.CaptureFixture[str]):
    before = left_behind()
    with capfd.disabled():
        print()
        said = list(told(story))
    assert said[-1] == "exit 0", "".join(said[-40:])
    assert left_behind() == before


def told(story: str) -> Iterator[str]:
    """The lines that a story prints, which are shown as they come, and at last how it ended."""
    command = [sys.executable, "-u", "-m", "rehearsal", "tell", story]
    with subprocess.Popen(
        command, cwd=PROGRAM, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as running:
        for line in running.stdout:
            print(line, end="", flush=True)
            yield line
    yield f"exit {running.returncode}"


def left_behind() -> dict[str, set[str]]:
    """Mounts, namespaces, links and control groups of this machine that a rehearsal could have made."""
    trees = cgroups.hierarchies()
    return {
        "mounts": set(Path("/proc/self/mounts").read_text().splitlines()),
        "namespaces": {path.name for path in Path("/run/netns").glob("*")},
        "links": {path.name for path in Path("/sys/class/net").iterdir()},
        "groups": {path.name for tree in trees for path in tree.iterdir() if cgroups.NAME.fullmatch(path.name)},
        "processes": rehearsing(),
    }


def rehearsing() -> set[str]:
    """Processes of other namespaces than ours."""
    own = Path("/proc/self/ns/pid").readlink()
    return {path.name for path in Path("/proc").glob("[0-9]*") if _namespace(path) not in (None, own)}


def _namespace(process: Path) -> Path | None:
    try:
        return (process / "ns/pid").readlink()
    except OSError:
        return None
