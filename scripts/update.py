"""Moves what is pinned - nixpkgs and sops-nix, headscale, headscale-ui - and says what moved from where to where.

All of it happens in a copy of nix/: sources and Go modules are fetched for their hashes, and both systems evaluated.
Only then does the copy's flake.lock and packages/pins.json take the place of ours, so that a failure changes nothing.
headscale migrates its database from one minor version to the next, never across one and never back; so do the pins.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

NIX = Path(__file__).resolve().parent.parent / "nix"
PINS, LOCK = Path("packages/pins.json"), Path("flake.lock")
# A hash that nothing has: nix then tells the right one.
UNKNOWN = f"sha256-{'A' * 43}="
HASHES = {
    "headscale": {"hash": "headscale.src", "vendorHash": "headscale.goModules"},
    "headscale-ui": {"hash": "headscale-ui.src"},
}
TAGS = {
    "headscale": "https://github.com/juanfont/headscale",
    "headscale-ui": "https://github.com/gurucomputing/headscale-ui",
}
NEWEST = "newest"


class Refused(Exception):
    """What was asked for, what is there, and what to do."""


class Moved(NamedTuple):
    what: str
    former: str
    later: str


class Version(NamedTuple):
    """Numbers, then what follows a dash; a version without that is newer than those with it."""

    numbers: tuple[int, ...]
    stable: bool
    rest: tuple[tuple[bool, int, str], ...]

    @classmethod
    def of(cls, text: str) -> "Version":
        match = re.fullmatch(r"(\d+(?:\.\d+){2})(?:-([0-9A-Za-z.-]+))?", text)
        if match is None:
            raise Refused(f"{text} is no version; write one like 0.29.3, without a v")
        rest = re.split(r"[.-]", match[2]) if match[2] else []
        parts = tuple((not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in rest)
        return cls(tuple(map(int, match[1].split("."))), match[2] is None, parts)


def check_step(what: str, former: str, later: str) -> None:
    """Raise Refused for a step back, and for one of headscale's that leaves out a minor version."""
    old, new = Version.of(former), Version.of(later)
    if new < old:
        raise Refused(f"{what} {later} is older than {former}, which is pinned; what {former} wrote it cannot read")
    if what == "headscale" and new.numbers[:2] not in _reachable(old):
        series = ".".join(map(str, _reachable(old)[1]))
        raise Refused(f"headscale {former} -> {later} leaves out a minor version; deploy a {series} first")


def _reachable(version: Version) -> tuple[tuple[int, ...], tuple[int, ...]]:
    major, minor, *_ = version.numbers
    return (major, minor), (major, minor + 1)


def newest(what: str, former: str, tags: Iterable[str]) -> str:
    """The newest released version that a step may reach; without one, the version that is pinned."""
    found = [former]
    for tag in tags:
        try:
            check_step(what, former, tag)
        except Refused:
            continue
        if Version.of(tag).stable:
            found.append(tag)
    return max(found, key=Version.of)


def main(arguments: list[str]) -> None:
    wanted = _parser().parse_args(arguments)
    versions = {"headscale": wanted.headscale, "headscale-ui": wanted.ui}
    everything = not (wanted.headscale or wanted.ui or wanted.nixpkgs)
    if everything:
        versions = dict.fromkeys(versions, NEWEST)
    with tempfile.TemporaryDirectory(prefix="update-") as directory:
        copy = Path(directory, "nix")
        shutil.copytree(NIX, copy, ignore=shutil.ignore_patterns("__pycache__"))
        moved = [*_inputs(copy)] if wanted.nixpkgs or everything else []
        moved += [move for what, version in versions.items() if version for move in _package(copy, what, version)]
        if moved:
            _nix("flake", "check", "--no-build", f"path:{copy}")
            _replace(copy)
    print("\n".join(f"{m.what:13} {m.former} -> {m.later}" for m in moved) or "nothing newer to move to")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/update", description=__doc__.splitlines()[0])
    to: dict[str, Any] = {"metavar": "VERSION", "nargs": "?", "const": NEWEST}
    parser.add_argument("--headscale", **to, help="headscale; without VERSION the newest that may follow")
    parser.add_argument("--ui", **to, help="headscale-ui; without VERSION the newest")
    parser.add_argument("--nixpkgs", action="store_true", help="nixpkgs and sops-nix, within their branches")
    parser.epilog = "Without any of them, everything moves. It needs nix with its sandbox, on Linux, and the network."
    return parser


def _inputs(copy: Path) -> Iterator[Moved]:
    before = _locked(copy)
    _nix("flake", "update", "--flake", f"path:{copy}")
    for name, later in _locked(copy).items():
        former = before[name]
        if later["lastModified"] < former["lastModified"]:
            raise Refused(
                f"{name} {_shown(later)} is older than {_shown(former)}, which is locked; nothing was changed"
            )
        if later["narHash"] != former["narHash"]:
            yield Moved(name, _shown(former), _shown(later))


def _locked(copy: Path) -> dict[str, dict[str, Any]]:
    nodes = json.loads((copy / LOCK).read_text())["nodes"]
    return {name: node["locked"] for name, node in nodes.items() if "locked" in node}


def _shown(locked: dict[str, Any]) -> str:
    day = datetime.fromtimestamp(locked["lastModified"], UTC).date()
    return f"{day} {locked.get('rev', locked['narHash'])[:19]}"


def _package(copy: Path, what: str, wanted: str) -> Iterator[Moved]:
    pins = json.loads((copy / PINS).read_text())
    former = pins[what]["version"]
    later = newest(what, former, _tags(what)) if wanted == NEWEST else wanted
    check_step(what, former, later)
    if later == former:
        return
    pins[what] = {"version": later} | dict.fromkeys(HASHES[what], UNKNOWN)
    for key, source in HASHES[what].items():
        _write(copy, pins)
        pins[what][key] = _hash(copy, source)
    _write(copy, pins)
    yield Moved(what, former, later)


def _tags(what: str) -> list[str]:
    listed = _run("git", "ls-remote", "--tags", "--refs", TAGS[what]).stdout
    return [line.rpartition("refs/tags/")[2].removeprefix("v") for line in listed.splitlines()]


def _write(copy: Path, pins: dict[str, dict[str, str]]) -> None:
    (copy / PINS).write_text(json.dumps(pins, indent=2) + "\n")


def _hash(copy: Path, source: str) -> str:
    """What nix finds when it fetches `source`, whose pinned hash is not known yet."""
    print(f"fetching {source}", file=sys.stderr)
    done = _nix("build", "--no-link", f"path:{copy}#{source}", expect=None)
    found = re.search(r"got:\s+(sha256-\S+)", done.stderr)
    if found is None:
        raise Refused(f"{source} could not be fetched; nothing was changed. nix said:\n{done.stderr.strip()}")
    return found[1]


def _nix(*arguments: str, expect: int | None = 0) -> subprocess.CompletedProcess[str]:
    return _run("nix", "--extra-experimental-features", "nix-command flakes", *arguments, expect=expect)


def _run(*command: str, expect: int | None = 0) -> subprocess.CompletedProcess[str]:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        raise Refused(f"there is no `{command[0]}` on PATH, which this needs; install it first") from None
    if expect is not None and done.returncode != expect:
        raise Refused(f"`{' '.join(command)}` failed; nothing was changed. It said:\n{done.stderr.strip()}")
    return done


def _replace(copy: Path) -> None:
    """Each file at once; both are complete before the first is replaced."""
    fresh = {name: NIX / f"{name}.new" for name in (PINS, LOCK)}
    for name, file in fresh.items():
        shutil.copyfile(copy / name, file)
    for name, file in fresh.items():
        os.replace(file, NIX / name)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Refused as reason:
        raise SystemExit(f"scripts/update: {reason}") from None
