"""Lines of checks that run side by side: how a thing is, and what to do where it is not well."""

import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from threading import Thread
from typing import NamedTuple, TypeVar

T = TypeVar("T")
STATES = ("fails", "warning", "not known", "ok")
ERASE = "\r\033[K"


class Line(NamedTuple):
    """The state of a thing, one of STATES, with the remedy where there is something to do."""

    state: str
    text: str
    remedy: str = ""


class Unknown(Exception):
    """The reason why a check cannot say how its thing is."""


Check = Callable[[], Iterable[Line]]


def ok(text: str) -> Line:
    return Line("ok", text)


def warning(text: str, remedy: str) -> Line:
    return Line("warning", text, remedy)


def fails(text: str, remedy: str) -> Line:
    return Line("fails", text, remedy)


def not_known(text: str, remedy: str = "") -> Line:
    return Line("not known", text, remedy)


def begin(work: Callable[[], T]) -> Future[T]:
    """Do the work in a thread of its own, which does not keep an interrupted command from ending."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as problem:
            future.set_exception(problem)

    Thread(target=run, daemon=True).start()
    return future


def report(checks: Mapping[str, Check], as_json: bool) -> int:
    """Run the checks side by side and print their lines in order, as soon as they are there; 1 where one fails."""
    running = {subject: begin(partial(_lines, check)) for subject, check in checks.items()}
    lines = []
    for subject in running:
        for line in _await(subject, running):
            lines.append({"subject": subject, **line._asdict()})
            if not as_json:
                print(_as_text(subject, line), flush=True)
    states = Counter(line["state"] for line in lines)
    print(json.dumps(lines, indent=2) if as_json else ", ".join(f"{states[state]} {state}" for state in STATES))
    return 1 if states["fails"] else 0


def say(text: str) -> None:
    """Tell the operator something at once, beside the lines."""
    print(f"{ERASE if sys.stderr.isatty() else ''}{text}", file=sys.stderr, flush=True)


def _lines(check: Check) -> list[Line]:
    try:
        return list(check())
    except Unknown as reason:
        return [not_known(str(reason))]
    except ImportError as lacking:
        return [not_known(f"not looked at without the Python module {lacking.name}", "`pulumi install` installs it")]


def _await(subject: str, running: Mapping[str, Future[list[Line]]]) -> list[Line]:
    """The lines of a subject; in a terminal, meanwhile, the subjects that are still looked at."""
    while not running[subject].done():
        pending = {name: future for name, future in running.items() if not future.done()}
        _progress(f"looking at: {', '.join(pending)}")
        wait(pending.values(), return_when=FIRST_COMPLETED)
    _progress("")
    return running[subject].result()


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(ERASE + text[: shutil.get_terminal_size().columns - 1], end="", file=sys.stderr, flush=True)


def _as_text(subject: str, line: Line) -> str:
    remedy = f"\n{'':11}{line.remedy}" if line.remedy else ""
    return f"{line.state:11}{subject}: {line.text}{remedy}"
