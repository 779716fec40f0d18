"""An operator is told of pins that have grown old, from the day on that was asked for."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from components import pins

PUBLISHED = datetime(2026, 9, 26, 19, 29, 38, tzinfo=UTC)


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """A lock whose node called nixpkgs is another input's."""
    nodes = {
        "nixpkgs": {"locked": {"lastModified": 1}},
        "nixpkgs_2": {"locked": {"lastModified": int(PUBLISHED.timestamp())}},
        "root": {"inputs": {"nixpkgs": "nixpkgs_2", "other": "nixpkgs"}},
    }
    (tmp_path / "flake.lock").write_text(json.dumps({"nodes": nodes}))
    return tmp_path / "flake.lock"


def test_the_age_is_that_of_the_system_in_whole_days(lock: Path):
    assert pins.published(lock) == PUBLISHED
    assert pins.age_in_days(lock, PUBLISHED + timedelta(days=30, hours=23)) == 30
    assert pins.age_in_days(lock, PUBLISHED + timedelta(days=31)) == 31


def test_older_pins_are_warned_of_with_the_remedy(lock: Path):
    warned = pins.warning(30, lock, PUBLISHED + timedelta(days=31))
    assert warned is not None
    assert "2026-09-26, 31 days old" in warned
    assert "`scripts/update`" in warned


def test_pins_as_old_as_is_allowed_are_not_warned_of(lock: Path):
    assert pins.warning(30, lock, PUBLISHED + timedelta(days=30, hours=23)) is None


def test_the_locks_own_date_is_read():
    assert pins.published() > datetime(2026, 8, 1, tzinfo=UTC)
