"""The report of a run: one line as each thing is proven, and a table of all of them at the end."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class StepLine:
    """One thing that was to be proven. `verdict` is "proven", "failed" or "not run"; `note` is what was seen."""

    what: str
    verdict: str
    seconds: float
    note: str = ""

    def __str__(self) -> str:
        note = f" - {self.note}" if self.note else ""
        return f"{self.seconds:7.1f} s  {self.verdict:8}  {self.what}{note}"


@dataclass
class Report:
    """The lines of a run, in order. A step that raises is a failed line, and the error goes on."""

    lines: list[StepLine] = field(default_factory=list)

    @contextmanager
    def step(self, what: str) -> Iterator[StepLine]:
        """Times a step. What the body puts into the line's `note` stands in the table."""
        print(f"           ...       {what}", flush=True)
        line = StepLine(what, "failed", 0.0)
        start = time.monotonic()
        try:
            yield line
            line.verdict = "proven" if line.verdict == "failed" else line.verdict
        except BaseException as error:
            line.note = f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]
            raise
        finally:
            line.seconds = time.monotonic() - start
            self.lines.append(line)
            print(line, flush=True)

    def table(self) -> str:
        total = sum(line.seconds for line in self.lines)
        counts = {verdict: sum(line.verdict == verdict for line in self.lines) for verdict in VERDICTS}
        ended = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
        return "\n".join([*map(str, self.lines), f"{total:7.1f} s  {ended}"])


VERDICTS = ("proven", "not run", "failed")
