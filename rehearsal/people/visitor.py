"""A visitor on the small internet, without a device of the tailnet: connects, asks over HTTPS, and tries to log in.

Each visitor lives in one network namespace: a place of its own, or one that is there already, such as a device's home.
"""

import ctypes
import os
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TypeVar
from urllib.parse import SplitResult, urlsplit

from rehearsal.internet.network import Customer, link, namespace, within

T = TypeVar("T")
PATIENCE = 1.0
# Well below the ten requests a second that a person may make for long.
PAUSE = 0.15
LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass
class Visitor:
    """`place` is the namespace's name; without one it is the operator's."""

    ca_bundle: Path
    place: str | None = None

    def reaches(self, address: str, port: int) -> bool:
        """True where a TCP connection is accepted."""
        return self._do(lambda: _connects(address, port))

    def ask(
        self, url: str, *, address: str, times: int = 1, key: str | None = None, patiently: bool = False
    ) -> list[int]:
        """The statuses of so many requests over one connection to `address`, one after the other; fewer when it is cut.

        Who asks patiently waits a little after each refusal by a limit.
        """
        return self._do(lambda: list(self._statuses(urlsplit(url), address, times, key, patiently)))

    def log_in(self, user: str, address: str, key: Path) -> str:
        """The SSH client's words on an attempt that is refused."""
        options = ("BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "IdentitiesOnly=yes")
        command = ["ssh", "-i", str(key), *(f"-o{option}" for option in (*options, "LogLevel=ERROR"))]
        argv = [*(within(self.place) if self.place else []), *command, f"{user}@{address}", "true"]
        process = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
        assert process.returncode == 255, f"{user} is let in: {process.returncode}: {process.stderr}"
        return process.stderr.strip()

    def _do(self, action: Callable[[], T]) -> T:
        return self._thread.submit(action).result()

    @cached_property
    def _thread(self) -> ThreadPoolExecutor:
        # Of a process, only the thread that asks for it changes its network namespace.
        return ThreadPoolExecutor(1, initializer=_enter, initargs=(self.place,))

    def _statuses(self, url: SplitResult, address: str, times: int, key: str | None, patiently: bool) -> Iterator[int]:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        with closing(HTTPConnection(url.netloc)) as connection, suppress(OSError, HTTPException):
            raw = socket.create_connection((address, 443), timeout=PATIENCE)
            trust = ssl.create_default_context(cafile=str(self.ca_bundle))
            connection.sock = trust.wrap_socket(raw, server_hostname=url.netloc)
            for _ in range(times):
                connection.request("GET", url.path, headers=headers)
                answer = connection.getresponse()
                answer.read()
                yield answer.status
                if patiently and answer.status == 429:
                    time.sleep(PAUSE)


def _connects(address: str, port: int) -> bool:
    with suppress(OSError):
        socket.create_connection((address, port), timeout=PATIENCE).close()
        return True
    return False


def _enter(place: str | None) -> None:
    if place is None:
        return
    with open(f"/run/netns/{place}") as target:
        if LIBC.setns(target.fileno(), 0) != 0:
            raise OSError(ctypes.get_errno(), f"setns to {place}: {os.strerror(ctypes.get_errno())}")


@contextmanager
def visitor(customer: Customer, ca_bundle: Path) -> Iterator[Visitor]:
    """A visitor in a place and with addresses of its own."""
    with namespace(customer.name), link(customer, place=customer.name):
        yield Visitor(ca_bundle, customer.name)
