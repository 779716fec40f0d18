"""Reads what the configuration says of its units: the text that counts, and what to do when it changed."""

from dataclasses import dataclass
from pathlib import Path

# A difference in these needs no restart.
IGNORED = ("X-Reload-Triggers=", "Description=", "Documentation=")

Units = dict[str, "Unit"]


@dataclass(frozen=True)
class Unit:
    text: str
    reload_triggers: tuple[str, ...]
    reload_if_changed: bool
    restart_if_changed: bool
    stop_if_changed: bool
    only_manual_start: bool


def parse(text: str) -> Unit:
    lines = text.splitlines()
    return Unit(
        text="\n".join(line for line in lines if not line.startswith(IGNORED)),
        reload_triggers=tuple(line for line in lines if line.startswith("X-Reload-Triggers=")),
        reload_if_changed="X-ReloadIfChanged=true" in lines,
        restart_if_changed="X-RestartIfChanged=false" not in lines,
        stop_if_changed="X-StopIfChanged=false" not in lines,
        only_manual_start="X-OnlyManualStart=true" in lines,
    )


def read(directory: Path) -> Units:
    """Return the declared units by name; a unit of Debian's with a drop-in counts by its drop-in."""
    units = {}
    for path in directory.iterdir() if directory.is_dir() else ():
        if path.is_symlink():
            continue
        if path.is_file():
            units[path.name] = parse(path.read_text())
        elif path.suffix == ".d":
            units[path.stem] = parse((path / "overrides.conf").read_text())
    return units
