"""Set-up makes each thing once, whole or not at all."""

import os
import time
from pathlib import Path

import pytest

from rehearsal.setup import cache


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cache, "ROOT", tmp_path)
    return tmp_path


def fill(target: Path) -> None:
    (target / "made").touch()


def never(target: Path) -> None:
    raise AssertionError("made again")


def directories(root: Path) -> set[str]:
    return {path.name for path in root.iterdir() if path.is_dir()}


def test_the_same_inputs_are_made_once():
    directory = cache.cached("thing", ["a"], fill)
    assert cache.cached("thing", ["a"], never) == directory
    assert cache.cached("thing", ["b"], fill) != directory


def test_what_fails_leaves_nothing(root: Path):
    def fail(target: Path) -> None:
        fill(target)
        raise ValueError("in the middle")

    with pytest.raises(ValueError):
        cache.cached("thing", ["a"], fail)
    assert directories(root) == set()


def test_what_a_killed_run_left_goes_with_the_next_that_needs_the_thing(root: Path):
    (root / "thing-unfinished-abc").mkdir()
    (root / "thing-else-unfinished-abc").mkdir()
    directory = cache.cached("thing", ["a"], fill)
    assert directories(root) == {directory.name, "thing-else-unfinished-abc"}


def test_what_was_unused_for_days_is_removed(root: Path):
    unused, used = cache.cached("thing", ["a"], fill), cache.cached("thing", ["b"], fill)
    os.utime(unused, (time.time() - 2 * cache.UNUSED,) * 2)
    cache.cached("thing", ["b"], never)
    assert directories(root) == {used.name}
