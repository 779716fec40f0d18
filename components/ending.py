"""How the program ends where it cannot go on: with its own words last, and none of its host's after them.

Source: pulumi-language-python-exec and its language host, which say no more after this exit status.
"""

import signal
import sys

import pulumi

MESSAGE_WAS_SHOWN = 32


class Refusal(SystemExit):
    """Tells the operator what is wrong and what to do, and ends the program."""

    def __init__(self, message: str) -> None:
        super().__init__(MESSAGE_WAS_SHOWN)
        self.message = message
        pulumi.log.error(message)

    def __str__(self) -> str:
        return self.message


def without_traceback() -> None:
    """When a resource fails, the engine interrupts the program: which needs no words of its own."""
    signal.signal(signal.SIGINT, lambda *_: sys.exit(MESSAGE_WAS_SHOWN))
