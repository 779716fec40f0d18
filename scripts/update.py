"""Moves what is pinned - NixOS's release, nixpkgs and sops-nix, headscale, headscale-ui - and says what moved.

All of it is tried on a copy of nix/: sources and Go modules are fetched for their hashes, both systems evaluated, and
built where this machine is of their kind. Only then does the copy take the place of what is pinned here, so that a
failure changes nothing. headscale migrates its database from one minor version to the next, never across one and never
back; so do the pins. The bootstrap system stays on its release.
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
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple

from .commands import PROGRAM, Refused

NIX = PROGRAM / "nix"
PINS, LOCK, FLAKE = Path("packages/pins.json"), Path("flake.lock"), Path("flake.nix")
NIXPKGS = "https://github.com/NixOS/nixpkgs"
RELEASE = re.compile(r'(?<=\bnixpkgs\.url = "github:NixOS/nixpkgs/nixos-)\d\d\.\d\d(?=")')
NOTES = "https://nixos.org/manual/nixos/stable/release-notes"
GO_MODULE = "github.com/juanfont/headscale"
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
NIXOS = "NixOS"
SYSTEMS = ("bootstrap", "headscale")


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
            raise Refused(f"{text} is not a version; write one like 0.29.3, without a v")
        rest = re.split(r"[.-]", match[2]) if match[2] else []
        parts = tuple((not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in rest)
        return cls(tuple(map(int, match[1].split("."))), match[2] is None, parts)


def check_step(what: str, former: str, later: str) -> None:
    """Raise Refused for an older version, and for one of headscale's that skips a minor version."""
    old, new = Version.of(former), Version.of(later)
    if new < old:
        raise Refused(f"{what} {later} is older than {former}, which is pinned; it cannot read what {former} wrote")
    if what == "headscale" and new.numbers[:2] not in _reachable(old):
        series = ".".join(map(str, _reachable(old)[1]))
        raise Refused(f"headscale {former} -> {later} skips a minor version; deploy a {series} first")


def _reachable(version: Version) -> tuple[tuple[int, ...], tuple[int, ...]]:
    major, minor, *_ = version.numbers
    return (major, minor), (major, minor + 1)


def newest(what: str, former: str, tags: Iterable[str]) -> str:
    """The newest released version that a step may reach; without one, the version that is pinned."""
    reachable = [former]
    for tag in tags:
        try:
            check_step(what, former, tag)
        except Refused:
            continue
        if Version.of(tag).stable:
            reachable.append(tag)
    return max(reachable, key=Version.of)


def newest_release(former: str, branches: Iterable[str], today: date) -> str:
    """The newest release of NixOS that is out; a branch is there some weeks before, and a release late in its month."""
    releases = [match[1] for branch in branches if (match := re.fullmatch(r"nixos-(\d\d\.\d\d)", branch))]
    return max([former, *(release for release in releases if release < today.strftime("%y.%m"))])


def main(arguments: list[str]) -> None:
    options = _parser().parse_args(arguments)
    if not (options.headscale or options.ui or options.nixpkgs or options.release):
        options = argparse.Namespace(headscale=NEWEST, ui=NEWEST, nixpkgs=True, release=True)
    with tempfile.TemporaryDirectory(prefix="update-") as directory:
        copy = Path(directory, "nix")
        shutil.copytree(NIX, copy, ignore=shutil.ignore_patterns("__pycache__"))
        moved = [*_moved(copy, options)]
        if moved:
            _nix("flake", "check", "--no-build", f"path:{copy}")
            _build(copy)
            _replace(copy)
    print("\n".join(f"{m.what:13} {m.former} -> {m.later}" for m in moved) or "nothing newer to move to")
    print("".join(f"{line}\n" for move in moved for line in _beside(move)), end="")


def _moved(copy: Path, options: argparse.Namespace) -> Iterator[Moved]:
    if options.release:
        yield from _release(copy)
    if options.release or options.nixpkgs:
        yield from _inputs(copy)
    for what, version in {"headscale": options.headscale, "headscale-ui": options.ui}.items():
        if version:
            yield from _package(copy, what, version)


def _beside(move: Moved) -> Iterator[str]:
    """Lines on what the operator has to read, or to move as well."""
    if move.what == NIXOS:
        yield f"{NOTES} says what is new in {move.later}; the bootstrap system stays on its release"
    elif move.what == "headscale":
        command = f"go get -tool {GO_MODULE}/cmd/headscale@v{move.later}"
        for file in sorted(PROGRAM.rglob("go.mod")):
            if f"{GO_MODULE} v{move.former} " in file.read_text():
                yield f"{file.relative_to(PROGRAM)} names headscale {move.former} too: `{command}` there moves it along"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/update", description=__doc__.splitlines()[0])
    to: dict[str, Any] = {"metavar": "VERSION", "nargs": "?", "const": NEWEST}
    parser.add_argument("--headscale", **to, help="headscale; without VERSION the newest that may follow")
    parser.add_argument("--ui", **to, help="headscale-ui; without VERSION the newest")
    parser.add_argument("--nixpkgs", action="store_true", help="nixpkgs and sops-nix, within their branches")
    parser.add_argument(
        "--release", action="store_true", help="the release of NixOS to the newest that is out, and these"
    )
    parser.epilog = "Without any of them, everything moves. It needs nix with its sandbox, on Linux, and the network."
    return parser


def _release(copy: Path) -> Iterator[Moved]:
    flake = copy / FLAKE
    match = RELEASE.search(flake.read_text())
    if match is None:
        raise Refused(f"nix/{FLAKE} takes nixpkgs from no release's branch; write one like nixos-26.05")
    later = newest_release(match[0], _references("--heads", NIXPKGS), datetime.now(UTC).date())
    if later != match[0]:
        flake.write_text(RELEASE.sub(later, flake.read_text()))
        yield Moved(NIXOS, match[0], later)


def _inputs(copy: Path) -> Iterator[Moved]:
    before = _locked(copy)
    _nix("flake", "update", "--flake", f"path:{copy}")
    for name, later in _locked(copy).items():
        former = before[name]
        if later["lastModified"] < former["lastModified"]:
            raise Refused(
                f"{name} {_revision(later)} is older than {_revision(former)}, which is locked; nothing was changed"
            )
        if later["narHash"] != former["narHash"]:
            yield Moved(name, _revision(former), _revision(later))


def _locked(copy: Path) -> dict[str, dict[str, Any]]:
    nodes = json.loads((copy / LOCK).read_text())["nodes"]
    return {name: node["locked"] for name, node in nodes.items() if "locked" in node}


def _revision(locked: dict[str, Any]) -> str:
    day = datetime.fromtimestamp(locked["lastModified"], UTC).date()
    return f"{day} {locked.get('rev', locked['narHash'])[:19]}"


def _package(copy: Path, what: str, options: str) -> Iterator[Moved]:
    pins = json.loads((copy / PINS).read_text())
    former = pins[what]["version"]
    later = newest(what, former, _tags(what)) if options == NEWEST else options
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
    return [tag.removeprefix("v") for tag in _references("--tags", TAGS[what])]


def _references(kind: str, repository: str) -> list[str]:
    listed = _run("git", "ls-remote", kind, "--refs", repository).stdout
    return [line.split("/", 2)[2] for line in listed.splitlines()]


def _build(copy: Path) -> None:
    """Build both systems of the sample data, where this machine can: it shows more than an evaluation."""
    here = _nix("eval", "--raw", "--impure", "--expr", "builtins.currentSystem").stdout
    sample = json.loads((copy / "deployment.json").read_text())["system"]
    if here != sample:
        print(f"nothing is built: this machine is {here}, not {sample}", file=sys.stderr)
        return
    print("building what has moved", file=sys.stderr)
    systems = (f"path:{copy}#nixosConfigurations.{name}.config.system.build.toplevel" for name in SYSTEMS)
    _nix("build", "--no-link", *systems)


def _write(copy: Path, pins: dict[str, dict[str, str]]) -> None:
    (copy / PINS).write_text(json.dumps(pins, indent=2) + "\n")


def _hash(copy: Path, source: str) -> str:
    """The hash of `source`, which nix tells when it fetches it with another one pinned."""
    print(f"fetching {source}", file=sys.stderr)
    process = _nix("build", "--no-link", f"path:{copy}#{source}", expect=None)
    answer = re.search(r"got:\s+(sha256-\S+)", process.stderr)
    if answer is None:
        raise Refused(f"{source} could not be fetched; nothing was changed. nix said:\n{process.stderr.strip()}")
    return answer[1]


def _nix(*arguments: str, expect: int | None = 0) -> subprocess.CompletedProcess[str]:
    return _run("nix", "--extra-experimental-features", "nix-command flakes", *arguments, expect=expect)


def _run(*command: str, expect: int | None = 0) -> subprocess.CompletedProcess[str]:
    try:
        process = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        raise Refused(f"`{command[0]}` is not on PATH; install it first") from None
    if expect is not None and process.returncode != expect:
        raise Refused(f"`{' '.join(command)}` failed; nothing was changed. It said:\n{process.stderr.strip()}")
    return process


def _replace(copy: Path) -> None:
    """Each file at once; all are complete before the first is replaced."""
    fresh = {name: NIX / f"{name}.new" for name in (PINS, LOCK, FLAKE)}
    for name, file in fresh.items():
        shutil.copyfile(copy / name, file)
    for name, file in fresh.items():
        os.replace(file, NIX / name)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Refused as reason:
        raise SystemExit(f"scripts/update: {reason}") from None
