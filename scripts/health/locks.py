"""The locks of a stack at a backend in a directory, which an engine holds while it works, and leaves when it is killed.

Source: pkg/backend/diy/lock.go of Pulumi 3.
"""

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from .lines import Line, Unknown, fails, not_known, ok, warning
from .setup import Setup


class Holder(NamedTuple):
    """The process that a lock names."""

    pid: int
    username: str
    hostname: str
    timestamp: str

    def __str__(self) -> str:
        return f"process {self.pid} of {self.username} on {self.hostname}, since {self.timestamp[:19]}"

    @property
    def has_ended(self) -> bool:
        """True where that is certain; another machine's processes are not seen from here."""
        if self.hostname != socket.gethostname():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False


def check(setup: Setup) -> Iterator[Line]:
    cancel = f"`pulumi cancel --stack {setup.stack().name}` releases it"
    holders = _holders(setup)
    if holders is None:
        yield not_known("only a backend in a directory shows it", f"if `pulumi up` speaks of one, {cancel}")
        return
    for holder in holders:
        if holder.has_ended:
            yield fails(f"left by {holder}, which has ended", cancel)
        else:
            yield warning(f"held by {holder}", f"wait for its end; where that is not a pulumi at work, {cancel}")
    if not holders:
        yield ok("none")


def require_rest(setup: Setup) -> None:
    """Unknown while an engine works: what it has just created is not in the state yet."""
    for holder in _holders(setup) or []:
        if not holder.has_ended:
            raise Unknown(f"not looked at while an engine works on the stack: {holder}")


def _holders(setup: Setup) -> list[Holder] | None:
    """None where the backend is not a directory."""
    url = urlsplit(setup.backend()["url"])
    if url.scheme != "file":
        return None
    directory = Path(unquote(f"{url.netloc}{url.path}")).expanduser() / ".pulumi/locks"
    locks = (_read(path) for path in directory.glob(f"organization/*/{setup.stack().name}/*.json"))
    return [Holder(**{field: lock[field] for field in Holder._fields}) for lock in locks if lock]


def _read(path: Path) -> dict[str, Any]:
    """Empty where the lock has just been released."""
    try:
        lock: dict[str, Any] = json.loads(path.read_text())
        return lock
    except FileNotFoundError:
        return {}
