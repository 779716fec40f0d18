"""The door of a living rehearsal: a socket in the capsule's own /run, at which the host asks.

A question is a line, the answer is JSON. Answers may hold the stack's tokens and passphrase, so they are neither
files nor arguments; only root can look into the capsule's /run.
"""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingUnixStreamServer
from typing import Any

from rehearsal.sandbox.capsule import RUN
from rehearsal.sandbox.wait import NOT_YET

SOCKET = RUN / "door"
PATIENCE = 30


class Closed(Exception):
    """Nobody answers: the rehearsal begins or ends."""


class Denied(Exception):
    """The question cannot be answered with what there is at the moment."""


@contextmanager
def opened(answer: Callable[[str], Any]) -> Iterator[None]:
    """Answer questions from threads of their own until the block ends; `answer` may raise what is in NOT_YET."""

    class Visit(StreamRequestHandler):
        def handle(self) -> None:
            try:
                output = {"answer": answer(self.rfile.readline().decode().strip())}
            except NOT_YET as error:
                output = {"refused": str(error)}
            self.wfile.write(json.dumps(output).encode())

    with ThreadingUnixStreamServer(str(SOCKET), Visit) as server:
        server.daemon_threads, server.block_on_close = True, False
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()


def ask(first: int, question: str) -> Any:
    """The answer of the rehearsal whose process 1 is `first`, seen from the host."""
    # Through /proc: the path is the capsule's, and names no socket of the host.
    path = Path(f"/proc/{first}/root") / SOCKET.relative_to("/")
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(str(path))
            connection.sendall(f"{question}\n".encode())
            with connection.makefile() as answer:
                output = json.loads(answer.read())
    except (OSError, ValueError) as error:
        raise Closed(f"no answer at {path}: {error}") from error
    if "refused" in output:
        raise Denied(output["refused"])
    return output["answer"]
