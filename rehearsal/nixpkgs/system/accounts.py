"""Writes passwd, group and shadow: Debian's own system accounts, and what the configuration declares.

A number once given to a name stays with it (/var/lib/nixos), as on NixOS. Not modelled: passwords, mutable users.
"""

import json
from pathlib import Path
from typing import Any

DEBIAN = Path("/usr/lib/rehearsal/etc")
REMEMBERED = Path("/var/lib/nixos/ids.json")
SHELL = "/run/current-system/sw/bin/bash"


class Numbers:
    """Free numbers for system accounts, from 999 downward."""

    def __init__(self, remembered: dict[str, int], taken: set[int]) -> None:
        self.remembered = remembered
        self.taken = taken | set(remembered.values())

    def of(self, name: str, fixed_id: int | None) -> int:
        number = fixed_id if fixed_id is not None else self.remembered.get(name)
        if number is None:
            number = next(n for n in range(999, 399, -1) if n not in self.taken)
        self.taken.add(number)
        self.remembered[name] = number
        return number


def _debian(name: str) -> dict[str, list[str]]:
    lines = (DEBIAN / name).read_text().splitlines()
    return {line.split(":")[0]: line.split(":") for line in lines if line}


def write(declared: dict[str, Any]) -> None:
    remembered = json.loads(REMEMBERED.read_text()) if REMEMBERED.exists() else {"users": {}, "groups": {}}
    groups = _groups(declared, remembered["groups"])
    _write("group", groups, 0o644)
    users = _users(declared, remembered["users"], groups)
    _write("passwd", users, 0o644)
    _write("shadow", {name: [name, "!*", "1", "", "", "", "", "", ""] for name in users}, 0o640)
    REMEMBERED.parent.mkdir(parents=True, exist_ok=True)
    REMEMBERED.write_text(json.dumps(remembered))


def _groups(declared: dict[str, Any], remembered: dict[str, int]) -> dict[str, list[str]]:
    groups = _debian("group")
    numbers = Numbers(remembered, {int(fields[2]) for fields in groups.values()})
    for name, group in declared["groups"].items():
        members = {*group["members"], *(u for u, of in declared["users"].items() if name in of["extraGroups"])}
        number = groups[name][2] if name in groups else numbers.of(name, group["gid"])
        groups[name] = [name, "x", str(number), ",".join(sorted(members))]
    return groups


def _users(declared: dict[str, Any], remembered: dict[str, int], groups: dict[str, list[str]]) -> dict[str, list[str]]:
    users = _debian("passwd")
    numbers = Numbers(remembered, {int(fields[2]) for fields in users.values()})
    for name, user in declared["users"].items():
        number = users[name][2] if name in users else numbers.of(name, user["uid"])
        shell = SHELL if name == "root" else "/usr/sbin/nologin"
        group = groups[user["group"]][2]
        users[name] = [name, "x", str(number), group, user["description"], user["home"], shell]
    for user in declared["users"].values():
        home = Path(user["home"])
        if home == Path("/root"):
            home.mkdir(mode=0o700, exist_ok=True)
    return users


def _write(name: str, lines: dict[str, list[str]], mode: int) -> None:
    path = Path("/etc", name)
    beside = path.with_name(f"{name}.tmp")
    beside.touch(mode=mode)
    beside.write_text("".join(":".join(fields) + "\n" for fields in lines.values()))
    beside.chmod(mode)
    beside.replace(path)
