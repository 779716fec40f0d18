"""Each story, run as its own command: what it proves is in its table, and it leaves nothing behind."""

import subprocess
import sys
from pathlib import Path

import pytest
from traces import Traces, now

from rehearsal.setup.cache import ROOT

PROGRAM = Path(__file__).resolve().parent.parent


STORIES = sorted(path.stem for path in (PROGRAM / "rehearsal/stories").glob("[a-z]*.py"))


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("story", STORIES)
def test_a_story_proves_every_line_of_its_table(story: str, capfd: pytest.CaptureFixture[str]):
    before = seen_by_the_host()
    with capfd.disabled():
        output, traces, last_word = tell(story)
    assert output[-1] == "exit 0", "".join(output[-40:])
    assert traces is not None and traces.left(begun_before=last_word) == []
    assert seen_by_the_host() == before


def tell(story: str) -> tuple[list[str], Traces | None, float]:
    """The output of a story, shown as it comes, and its status; what it would leave is known at its first step.

    The last is when it printed something for the last time.
    """
    output, traces, last_word = [], None, 0.0
    command = [sys.executable, "-u", "-m", "rehearsal", "tell", story]
    with subprocess.Popen(
        command, cwd=PROGRAM, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as running:
        for line in running.stdout or ():
            # Several are told side by side, and the standard output of pytest's workers is not shown.
            print(f"{story:15}{line}", end="", file=sys.stderr, flush=True)
            output.append(line)
            last_word = now()
            if traces is None and line.strip().startswith("... "):
                traces = Traces.of(running.pid)
    return [*output, f"exit {running.returncode}"], traces, last_word


def seen_by_the_host() -> dict[str, set[str]]:
    """The things that a rehearsal makes in namespaces of its own, and never in the host's."""
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    return {
        # While an image is made for the cache, for another test perhaps, file systems are mounted in it.
        "mounts": {line for line in mounts if str(ROOT) not in line},
        "namespaces": {path.name for path in Path("/run/netns").glob("*")},
        "links": {path.name for path in Path("/sys/class/net").iterdir()},
    }
