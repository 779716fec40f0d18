"""Waiting for facts, never for time: a probe is repeated until it answers or a deadline passes.

`gaps` remembers how late each wait may have noticed: the time between the last look that failed and the first
that did not. A run prints their sum, so that what waiting costs stays visible.
"""

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
SHORTEST, LONGEST = 0.01, 0.2
NOT_YET = (OSError, AssertionError, LookupError, ValueError, subprocess.SubprocessError)


@dataclass(frozen=True)
class Gap:
    """A wait that ended well: for what, how long, and the most by which it was noticed late."""

    what: str
    waited: float
    late: float


gaps: list[Gap] = []


def eventually(probe: Callable[[], T | None], what: str, timeout: float) -> T:
    """Return the probe's first true value; after a false one, or an error in NOT_YET, look again."""
    start, looked, pause = time.monotonic(), None, SHORTEST
    while True:
        try:
            value = probe()
            problem = None
        except NOT_YET as error:
            value, problem = None, f"{type(error).__name__}: {error}"
        now = time.monotonic()
        if value:
            if looked is not None:
                gaps.append(Gap(what=what, waited=now - start, late=now - looked))
            return value
        if now - start > timeout:
            raise TimeoutError(f"waited {timeout:g} s for {what}; seen last: {problem or repr(value)}")
        looked = now
        time.sleep(pause)
        pause = min(pause * 1.5, LONGEST)


def lateness() -> float:
    """The most that all waits so far can have added to the run."""
    return sum(gap.late for gap in gaps)
