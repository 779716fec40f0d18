"""Checks and their lines: each is told as soon as it is over."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ..commands import Refused

WELL, WRONG, NOT_CHECKED = "well", "wrong", "not checked"


class Wrong(Exception):
    """A thing is not as it should be: the state expected, the state that is there, the remedy."""


class NotChecked(Exception):
    """A thing cannot be judged from here: the reason."""


class Check(NamedTuple):
    """A thing to look at; `look` says in a few words what it saw, or raises Wrong or NotChecked."""

    what: str
    look: Callable[[], str]


@dataclass(frozen=True)
class Line:
    what: str
    verdict: str
    note: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.seconds:6.1f} s  {self.verdict:11}  {self.what}{f' - {self.note}' if self.note else ''}"


def lines(checks: Iterable[Check]) -> Iterator[Line]:
    """Look at one thing after the other; on a terminal, show at which."""
    for check in checks:
        if sys.stderr.isatty():
            print(f"          ...          {check.what}", end="\r", file=sys.stderr, flush=True)
        start = time.monotonic()
        verdict, note = _judge(check)
        if sys.stderr.isatty():
            print("\033[K", end="", file=sys.stderr, flush=True)
        yield Line(check.what, verdict, note, round(time.monotonic() - start, 1))


def _judge(check: Check) -> tuple[str, str]:
    try:
        return WELL, check.look()
    except NotChecked as reason:
        return NOT_CHECKED, str(reason)
    except (Wrong, Refused) as problem:
        return WRONG, str(problem)
    except (OSError, ValueError) as problem:
        return WRONG, f"{type(problem).__name__}: {problem}"
