"""Hetzner's actions: what was asked is answered at once with `running`, and a later poll tells how it ended.

What needs no machine is a success at once, as in the real API. Progress is 0 or 100.
"""

import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from rehearsal.emulators.api import Json

Resource = tuple[str, int]


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass
class Action:
    id: int
    command: str
    resources: tuple[Resource, ...]
    started: str
    finished: str | None = None
    error: str | None = None

    @property
    def running(self) -> bool:
        return self.finished is None

    def finish(self, error: Exception | None = None) -> None:
        self.finished = now()
        self.error = str(error) or type(error).__name__ if error else None

    def json(self) -> Json:
        return {
            "id": self.id,
            "command": self.command,
            "status": "running" if self.running else "error" if self.error else "success",
            "progress": 0 if self.running else 100,
            "started": self.started,
            "finished": self.finished,
            "error": {"code": "action_failed", "message": self.error} if self.error else None,
            "resources": [{"type": kind, "id": id} for kind, id in self.resources],
        }


class Actions:
    """All actions of a project; machines are worked on one after the other, in the order it was asked for."""

    def __init__(self, lock: threading.RLock) -> None:
        self.all: dict[int, Action] = {}
        self._lock = lock
        self._ids = itertools.count(5001)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="machines")

    def done(self, command: str, *resources: Resource) -> Action:
        action = self.begin(command, *resources)
        action.finish()
        return action

    def begin(self, command: str, *resources: Resource) -> Action:
        action = Action(next(self._ids), command, resources, now())
        self.all[action.id] = action
        return action

    def of(self, kind: str, id: int | None) -> list[Action]:
        """The actions of one resource, or of all of its kind."""
        return [
            action
            for action in self.all.values()
            if any(kind == other and id in (None, number) for other, number in action.resources)
        ]

    def run(
        self, actions: Sequence[Action], work: Callable[[], None], then: Callable[[Exception | None], None]
    ) -> None:
        """Do the work in the background; then change the state and end the actions, under the API's lock."""
        self._worker.submit(self._run, actions, work, then)

    def _run(
        self, actions: Sequence[Action], work: Callable[[], None], then: Callable[[Exception | None], None]
    ) -> None:
        failure = None
        try:
            work()
        except Exception as error:
            failure = error
        with self._lock:
            then(failure)
            for action in actions:
                action.finish(failure)
