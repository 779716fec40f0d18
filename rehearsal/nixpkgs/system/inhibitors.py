"""The reasons against a switch to a system while another runs: NixOS's pre-switch check, with its words.

Each system has `switch-inhibitors`, a JSON object of names and what stands for them; a name that both systems have,
with different values, is a reason to reboot instead. NIXOS_NO_CHECK=1 switches all the same.
"""

import json
import os
import sys
from pathlib import Path

RUNNING = Path("/run/current-system")
UNCHECKED = ("boot", "dry-activate")


def read(system: Path) -> dict[str, str]:
    path = system / "switch-inhibitors"
    return dict(json.loads(path.read_text())) if path.is_file() else {}


def differences(old: dict[str, str], new: dict[str, str]) -> list[str]:
    return [
        f"{name} : {old[name]} -> {new[name]}" for name in sorted(old.keys() & new.keys()) if old[name] != new[name]
    ]


def permit(system: Path, action: str) -> bool:
    """True where the action may continue; otherwise print why not."""
    if os.environ.get("NIXOS_NO_CHECK") == "1":
        return True
    if action in UNCHECKED:
        print(f"Not checking switch inhibitors (action = {action})")
        return True
    print("Checking switch inhibitors...", end="")
    changed = differences(read(RUNNING), read(system))
    if not changed:
        print(" done")
        return True
    print("\nThere are changes to critical components of the system:\n", *changed, "", sep="\n")
    print("Switching into this system is not recommended.")
    print("You probably want to run 'nixos-rebuild boot' and reboot your system instead.", flush=True)
    print("Pre-switch check 'switchInhibitors' failed\nPre-switch checks failed", file=sys.stderr)
    return False
