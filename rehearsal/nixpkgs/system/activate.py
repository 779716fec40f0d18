"""Makes the running root what a system describes: accounts, /etc, the system's own scripts, /run/current-system.

Called as `activate.py SYSTEM`. Not modelled: mounts, wrappers, firmware, modules.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import accounts

ETC = Path("/etc")
STATIC = ETC / "static"
COPIED = ETC / ".clean"


def link(path: Path, target: str | Path) -> None:
    """Point `path` to `target` in one step, whatever file or link is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".tmp")
    beside.unlink(missing_ok=True)
    beside.symlink_to(target)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    beside.replace(path)


def copy(source: Path, path: Path, entry: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".tmp")
    shutil.copyfile(source, beside)
    beside.chmod(int(entry["mode"], 8))
    shutil.chown(beside, entry["user"], entry["group"])
    beside.replace(path)


def set_up_etc(system: Path, entries: dict[str, dict[str, str]]) -> None:
    link(STATIC, system / "etc")
    copied = set(COPIED.read_text().split("\n")) if COPIED.exists() else set()
    for name, entry in entries.items():
        if entry["mode"] == "symlink":
            for part in parts(name):
                link(ETC / part, STATIC / part)
        else:
            copy(STATIC / name, ETC / name, entry)
    for path in ours(ETC):
        if not os.path.lexists(STATIC / path.relative_to(ETC)):
            path.unlink()
    still = {name for name, entry in entries.items() if entry["mode"] != "symlink"}
    for name in filter(None, copied - still):
        if name not in entries:
            (ETC / name).unlink(missing_ok=True)
    COPIED.write_text("\n".join(sorted(still)))


def parts(name: str) -> list[str]:
    """Return the links that an entry is: itself, or those that its source's pattern put into a directory."""
    static = STATIC / name
    return [name] if static.is_symlink() else [f"{name}/{part.name}" for part in static.iterdir()]


def ours(directory: Path) -> list[Path]:
    """Return all links below `directory` that lead into /etc/static."""
    matches = []
    for where, directories, files in os.walk(directory):
        for path in (Path(where, name) for name in directories + files):
            if path.is_symlink() and os.readlink(path).startswith(f"{STATIC}/"):
                matches.append(path)
    return matches


def main(system: Path) -> None:
    description = json.loads((system / "description.json").read_text())
    os.umask(0o022)
    accounts.write(description["accounts"])
    set_up_etc(system, description["etc"])
    # NixOS has bash there, Debian has dash.
    link(Path("/usr/bin/sh"), "bash")
    link(Path("/run/current-system"), system)
    link(Path("/nix/var/nix/gcroots/current-system"), "/run/current-system")
    (ETC / "NIXOS").touch()
    socket.sethostname(description["hostName"])
    subprocess.run(["/bin/sh", "-eu", system / "activation-scripts"], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
