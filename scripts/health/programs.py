"""The programs and Python packages that the operator's commands run by."""

import re
import sys
from collections.abc import Iterator
from importlib import metadata

from scripts.commands import INSTALL, PROGRAM, Refused, require, run

from .lines import Line, fails, ok
from .setup import Setup

OLDEST_PULUMI, OLDEST_SOPS = (3, 272), (3, 11)


def pulumi(setup: Setup) -> Iterator[Line]:
    try:
        yield _new_enough("pulumi", setup.pulumi.result(), OLDEST_PULUMI)
    except (Refused, OSError) as problem:
        yield fails(str(problem), INSTALL["pulumi"])


def sops(setup: Setup) -> Iterator[Line]:
    try:
        require("sops")
        yield _new_enough("sops", run("sops", "--disable-version-check", "--version"), OLDEST_SOPS)
    except (Refused, OSError) as problem:
        yield fails(str(problem), INSTALL["sops"])


def packages(setup: Setup) -> Iterator[Line]:
    """The Python packages that `pulumi install` installs, in the versions of requirements.txt."""
    pins = dict(line.split("==") for line in (PROGRAM / "requirements.txt").read_text().split())
    others = {name: other for name, version in pins.items() if (other := _installed(name)) != version}
    for name, other in others.items():
        instead = f"has {name} {other} and not" if other else f"lacks {name}"
        yield fails(f"{sys.executable} {instead} {pins[name]}", "`pulumi install` installs it")
    if not others:
        yield ok(f"{sys.prefix} has all of requirements.txt")


def _new_enough(program: str, output: str, oldest: tuple[int, int]) -> Line:
    version = re.search(r"(\d+)\.(\d+)\.\d+", output)
    if version is None:
        return fails(f"`{program}` does not tell its version: {output.strip()[:80]!r}", INSTALL[program])
    if tuple(map(int, version.groups())) < oldest:
        return fails(f"{version[0]} is older than {oldest[0]}.{oldest[1]}", INSTALL[program])
    return ok(version[0])


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
