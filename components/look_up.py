"""Look-ups at the clouds, with a clear error where they fail."""

import re
from typing import TypeVar

import pulumi

from .ending import Refusal

T = TypeVar("T")
# The engine wraps this around a provider's own words.
WRAPPING = re.compile(r"(?s).*returned an error: (?:invoking [^:]*:[^:]*:[^:]*: )?")


async def answer(output: pulumi.Output[T], question: str, repair: str) -> T:
    """The answer of a look-up; raises Refusal, with the question and the repair, where it fails."""
    try:
        return await output.future()  # type: ignore[return-value]
    except Exception as problem:
        words = " ".join(WRAPPING.sub("", str(problem)).split())
        raise Refusal(f"{question}: {words[:500]}. {repair}") from None
