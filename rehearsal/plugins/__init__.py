"""The provider plugins of a rehearsal, put where the engine looks for them.

`command` and `cloudflare` are stand-ins in Python: the official programs are a download of their own, which a
rehearsal without a network cannot make. Official ones in ~/.pulumi/plugins are preferred.
"""

import shlex
from pathlib import Path

VERSIONS = {"command": "1.2.1", "cloudflare": "6.23.1", "hcloud": "1.43.3"}
PROJECT = Path(__file__).resolve().parents[2]


def install(home: Path, python: Path) -> None:
    """Put the command and cloudflare plugins into PULUMI_HOME `home`; stand-ins are run by `python`."""
    for name in ("command", "cloudflare"):
        if official(name).exists():
            _link(home, name, official(name))
        else:
            _write(home, name, launcher(name, python))


def install_hcloud(home: Path, programs: Path) -> None:
    """Put the hcloud plugin built into the directory `programs` into PULUMI_HOME `home`."""
    _link(home, "hcloud", programs / "pulumi-resource-hcloud")


def official(name: str) -> Path:
    return program(Path.home() / ".pulumi", name)


def program(home: Path, name: str) -> Path:
    """The place where the engine, with PULUMI_HOME `home`, finds the plugin of that name."""
    return home / "plugins" / f"resource-{name}-v{VERSIONS[name]}" / f"pulumi-resource-{name}"


def launcher(name: str, python: Path) -> str:
    """A script that runs the stand-in of that name, whatever directory the engine starts it in."""
    root, interpreter = shlex.quote(str(PROJECT)), shlex.quote(str(python))
    return f'#!/bin/sh\nPYTHONPATH={root} exec {interpreter} -m rehearsal.plugins.{name} "$@"\n'


def _place(home: Path, name: str) -> Path:
    place = program(home, name)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    return place


def _write(home: Path, name: str, script: str) -> None:
    place = _place(home, name)
    place.write_text(script)
    place.chmod(0o755)


def _link(home: Path, name: str, target: Path) -> None:
    # The engine skips plugin directories that are links themselves, so the program in it is the link.
    if target != program(home, name):
        _place(home, name).symlink_to(target.resolve())
