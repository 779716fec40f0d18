"""Look-ups at the clouds, with a clear error where they fail."""

import re
from typing import NoReturn, TypeVar

import pulumi

from .ending import Refusal

T = TypeVar("T")
# The engine wraps this around a provider's own words.
WRAPPING = re.compile(r"(?s).*returned an error: (?:invoking [^:]*:[^:]*:[^:]*: )?")


def answer(output: pulumi.Output[T], question: str, repair: str) -> pulumi.Output[T]:
    """The answer of a look-up; raises Refusal, with the question and the repair, where it fails.

    To be called as soon as the look-up is made: Pulumi ends a program with the traceback of any failure that nothing
    waits for.
    """

    def refuse(problem: Exception) -> NoReturn:
        words = " ".join(WRAPPING.sub("", str(problem)).split())
        raise Refusal(f"{question}: {words[:500]}. {repair}") from None

    return output.recover(refuse)
