"""The age of the NixOS that a deploy would build: nix/flake.lock pins what was published on a day."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

LOCK = Path(__file__).resolve().parent.parent / "nix/flake.lock"


def published(lock: Path = LOCK) -> datetime:
    """The time at which the nixpkgs of the server's system was published."""
    nodes = json.loads(lock.read_text())["nodes"]
    name = nodes["root"]["inputs"]["nixpkgs"]
    return datetime.fromtimestamp(nodes[name]["locked"]["lastModified"], UTC)


def age_in_days(lock: Path = LOCK, now: datetime | None = None) -> int:
    """Whole days since then."""
    return ((now or datetime.now(UTC)) - published(lock)) // timedelta(days=1)


def warning(longest: int, lock: Path = LOCK, now: datetime | None = None) -> str | None:
    """A warning, with the remedy, where the pins are older than `longest` days; otherwise None."""
    age = age_in_days(lock, now)
    if age <= longest:
        return None
    return (
        f"nix/flake.lock pins the NixOS of {published(lock):%Y-%m-%d}, {age} days old: later fixes "
        "of the kernel, OpenSSH, NGINX and all else are not on the server. `scripts/update` moves the pins, and "
        "`pulumi up` deploys them"
    )
