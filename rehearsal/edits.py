"""Editing the product's own nix/ as an operator would, seen by nobody outside the capsule."""

from collections.abc import Iterator
from contextlib import contextmanager

from rehearsal.capsule import Run
from rehearsal.processes import check
from rehearsal.stack import PROGRAM

NIX = PROGRAM / "nix"


def open_for_edits(run: Run) -> None:
    """From now on, what is written below nix/ lies in the run's directory; the checkout stays as it is."""
    upper, work = run.directory("nix/upper"), run.directory("nix/work")
    options = f"lowerdir={NIX},upperdir={upper},workdir={work}"
    check(["mount", "-t", "overlay", "-o", options, "overlay", str(NIX)])


@contextmanager
def edited(name: str, before: str, after: str) -> Iterator[None]:
    """While it lasts, `after` stands in a file of nix/ where `before` was, which must be there once."""
    path = NIX / name
    text = path.read_text()
    assert text.count(before) == 1, f"{name} has {text.count(before)} times {before!r}"
    path.write_text(text.replace(before, after))
    try:
        yield
    finally:
        path.write_text(text)
