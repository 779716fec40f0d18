"""Faults that an emulated cloud has when it is told to, by `Api.fail(Fault("POST /servers", status=429, ...))`.

A fault strikes a request before the work or, with `after`, when the work is done; a request meets one fault at most.

| fault | work | what the client gets |
|---|---|---|
| `status=429, code="rate_limit_exceeded"` | not done | this error in the API's own shape |
| `status=502` | not done | this status with a page of HTML, as from a proxy in front of the API |
| `drop=True` | not done | a closed connection, not one byte of an answer |
| `drop=True, after=True` | done | the same: a success that is not reported |
| `status=504, after=True` | done | an error about what was done nevertheless |
| `delay=3` | done after 3 s | the usual answer, 3 s late; with the above, the delay comes before what they do |
| `delay=3, after=True` | done at once | the usual answer, 3 s late |

Injected errors say nothing about retries. Not modelled: half an answer, an outage between the API and its machines.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TypeVar

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Fault:
    """`request` is a method and a path below the API's prefix; `*` stands for anything, slashes too."""

    request: str
    status: int | None = None
    code: str | int | None = None
    times: int = 1
    delay: float = 0
    drop: bool = False
    after: bool = False

    def __post_init__(self) -> None:
        if self.status and self.drop:
            raise ValueError(f"fault of {self.request}: a dropped connection has no status; leave one of them out")
        if not (self.status or self.drop or self.delay) or (self.code and not self.status):
            raise ValueError(f"fault of {self.request}: nothing would happen; give a status, drop=True or a delay")

    def strikes(self, method: str, path: str) -> bool:
        return fnmatchcase(f"{method} {path}", self.request)

    def strike(self, work: Callable[[], Answer], error: Callable[[], Answer]) -> Answer | None:
        """The response to the client, None for a dropped connection."""
        answer = work() if self.after else None
        time.sleep(self.delay)
        if self.drop:
            return None
        if self.status:
            return error()
        return work() if answer is None else answer
