"""Checks and their lines: each is told as soon as it is over."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import wraps
from http.client import HTTPException
from subprocess import SubprocessError
from threading import Lock
from typing import NamedTuple, TypeVar, TypeVarTuple

from ..commands import Refused

Arguments = TypeVarTuple("Arguments")
T = TypeVar("T")
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
class Observation:
    what: str
    verdict: str
    note: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.seconds:6.1f} s  {self.verdict:11}  {self.what}{f' - {self.note}' if self.note else ''}"


def lines(checks: Iterable[Check], at_once: int = 1) -> Iterator[Observation]:
    """Look at so many things at once; the lines come in order. On a terminal, show at which we are.

    One at a time they are looked at by this thread, which a signal interrupts.
    """
    checks = list(checks)
    with ThreadPoolExecutor(at_once) as pool:
        ended = pool.map(_line, checks) if at_once > 1 else map(_line, checks)
        for check in checks:
            _show(f"          ...          {check.what}\r")
            line = next(ended)
            _show("\033[K")
            yield line


def once(function: Callable[[*Arguments], T]) -> Callable[[*Arguments], T]:
    """The function with a memory: who asks while it works waits for that answer."""
    memory: dict[tuple[object, ...], T] = {}
    lock = Lock()

    @wraps(function)
    def answer(*arguments: *Arguments) -> T:
        with lock:
            if arguments not in memory:
                memory[arguments] = function(*arguments)
            return memory[arguments]

    return answer


def _show(text: str) -> None:
    if sys.stderr.isatty():
        print(text, end="", file=sys.stderr, flush=True)


def _line(check: Check) -> Observation:
    start = time.monotonic()
    verdict, note = _judge(check)
    return Observation(check.what, verdict, note, round(time.monotonic() - start, 1))


def _judge(check: Check) -> tuple[str, str]:
    try:
        return WELL, check.look()
    except NotChecked as reason:
        return NOT_CHECKED, str(reason)
    except (Wrong, Refused) as problem:
        return WRONG, str(problem)
    except (OSError, ValueError, HTTPException, SubprocessError) as problem:
        return WRONG, f"{type(problem).__name__}: {problem}"
