"""Writes a directory of units from their JSON: `units.py UNITS DIRECTORY`."""

import json
import sys
from pathlib import Path
from typing import Any

DEBIAN = Path("/usr/lib/systemd/system")


def write(directory: Path, name: str, unit: dict[str, Any]) -> None:
    own = directory / name
    if not unit["enable"]:
        own.symlink_to("/dev/null")
    elif unit["dropin"]:
        own.with_name(f"{name}.d").mkdir()
        (own.with_name(f"{name}.d") / "overrides.conf").write_text(unit["text"])
        own = DEBIAN / name
    else:
        own.write_text(unit["text"])
    for kind, targets in (("wants", unit["wantedBy"]), ("requires", unit["requiredBy"])):
        for target in targets:
            wanting = directory / f"{target}.{kind}"
            wanting.mkdir(exist_ok=True)
            (wanting / name).symlink_to(own)


def main(units: Path, directory: Path) -> None:
    directory.mkdir()
    (directory / "default.target").symlink_to(DEBIAN / "multi-user.target")
    for name, unit in json.loads(units.read_text()).items():
        write(directory, name, unit)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
