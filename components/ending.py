"""End the program where it cannot continue: its own words come last, without a traceback of Pulumi's Python host.

Source: pulumi-language-python-exec and its language host, which say no more after this exit status.
"""

import os
import signal
import sys

import pulumi

MESSAGE_WAS_SHOWN = 32


class Refusal(SystemExit):
    """Tells the operator what is wrong and what to do; ends the program."""

    def __init__(self, message: str) -> None:
        super().__init__(MESSAGE_WAS_SHOWN)
        self.message = message
        pulumi.log.error(message)

    def __str__(self) -> str:
        return self.message


def without_traceback() -> None:
    """Stay silent where the engine interrupts the program because a resource has failed."""
    signal.signal(signal.SIGINT, lambda *_: _end())


def _end() -> None:
    # Python's own exit prints each unfinished coroutine.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(MESSAGE_WAS_SHOWN)
