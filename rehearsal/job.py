"""The work in a capsule: a story from its set-up to its table, and the life that `up` leaves running."""

import os
import platform
import sys
import time

from rehearsal import stories
from rehearsal.living import service as life
from rehearsal.report import Report
from rehearsal.sandbox import capsule
from rehearsal.sandbox.wait import lateness
from rehearsal.world import prepare, world


def main(story: str = "main") -> int:
    start = time.monotonic()
    if not capsule.inside():
        # Set-up needs the machine's own network; inside the capsule there is no way out.
        prepare(say)
        say(f"set-up took {time.monotonic() - start:.1f} s")
    return rehearse(capsule.enter(), story)


def rehearse(run: capsule.Run, story: str) -> int:
    start, report = time.monotonic(), Report()
    try:
        kind = stories.story(story)
        with world(run, prepare(say), say, kind.program(run)) as everything:
            kind(everything, report).tell()
    except Exception as error:
        print(f"\nThe rehearsal stopped: {error}\n", file=sys.stderr)
        raise
    finally:
        print(f"\n{report.table()}\n")
        print(f"rehearsed in {time.monotonic() - start:.1f} s on {platform.machine()}")
        print(f"waits noticed their facts at most {lateness():.1f} s late, all together")
    return 0


def live(lock: int) -> int:
    """The lock is kept by the outermost process and the keeper, and by nothing that runs inside."""
    if not capsule.inside():
        os.set_inheritable(lock, False)
    life.live(capsule.enter(), say)
    return 0


def say(line: str) -> None:
    print(f"           {line}", flush=True)
