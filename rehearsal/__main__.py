"""`python -m rehearsal`: set up what is missing, live through the main job, print what was proven."""

import platform
import sys
import time

from rehearsal import capsule
from rehearsal.report import Report
from rehearsal.story import Story
from rehearsal.wait import lateness
from rehearsal.world import prepare, world


def main() -> int:
    begun = time.monotonic()
    if not capsule.inside():
        # Set-up needs the machine's own network; inside the capsule there is no way out.
        prepare(say)
        say(f"set-up took {time.monotonic() - begun:.1f} s")
    return rehearse(capsule.enter())


def rehearse(run: capsule.Run) -> int:
    begun, report = time.monotonic(), Report()
    try:
        with world(run, prepare(say), say) as everything:
            Story(everything, report).tell()
    except Exception as error:
        print(f"\nThe rehearsal stopped: {error}\n", file=sys.stderr)
        raise
    finally:
        print(f"\n{report.table()}\n")
        print(f"rehearsed in {time.monotonic() - begun:.1f} s on {platform.machine()}")
        print(f"waits noticed their facts at most {lateness():.1f} s late, all together")
    return 0


def say(line: str) -> None:
    print(f"           {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
