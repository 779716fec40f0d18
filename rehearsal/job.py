"""What runs in a capsule: a story from its set-up to its table, and the life that `up` leaves running."""

import os
import platform
import sys
import time

from rehearsal import capsule, life, stories
from rehearsal.report import Report
from rehearsal.wait import lateness
from rehearsal.world import prepare, world


def main(story: str = "main") -> int:
    begun = time.monotonic()
    if not capsule.inside():
        # Set-up needs the machine's own network; inside the capsule there is no way out.
        prepare(say)
        say(f"set-up took {time.monotonic() - begun:.1f} s")
    return rehearse(capsule.enter(), story)


def rehearse(run: capsule.Run, story: str) -> int:
    begun, report = time.monotonic(), Report()
    try:
        told = stories.story(story)
        with world(run, prepare(say), say, told.program(run)) as everything:
            told(everything, report).tell()
    except Exception as error:
        print(f"\nThe rehearsal stopped: {error}\n", file=sys.stderr)
        raise
    finally:
        print(f"\n{report.table()}\n")
        print(f"rehearsed in {time.monotonic() - begun:.1f} s on {platform.machine()}")
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
