"""Makes a system the running one and, or, the one that boots next: `switch.py SYSTEM switch|boot|test|dry-activate`.

What matters of the real program: the units that were removed stop, changed ones restart or reload as they say, new ones
start, and status 4 tells that units failed. Not modelled: sockets, mounts, slices, user units, a new systemd.
"""

import fcntl
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import bootloader
import unitfiles

LOCK = Path("/run/nixos/switch-to-configuration.lock")
RESTART_LIST = Path("/run/nixos/activation-restart-list")
RELOAD_LIST = Path("/run/nixos/activation-reload-list")
TARGETS = ("sysinit.target", "multi-user.target", "timers.target")


@dataclass
class Plan:
    """What happens to the units that run now."""

    stop: set[str] = field(default_factory=set)
    start: set[str] = field(default_factory=set)
    restart: set[str] = field(default_factory=set)
    reload: set[str] = field(default_factory=set)

    def say(self, words: str) -> None:
        for what in ("stop", "start", "restart", "reload"):
            if units := getattr(self, what):
                print(f"{words} {what} the following units: {', '.join(sorted(units))}", file=sys.stderr)


def systemctl(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["/usr/bin/systemctl", *arguments], stdout=subprocess.PIPE, text=True)


def units_in(*states: str) -> set[str]:
    listed = systemctl("list-units", "--all", "--plain", "--no-legend", f"--state={','.join(states)}").stdout
    return {line.split()[0] for line in listed.splitlines() if line.strip()}


def plan_for(old: unitfiles.Units, new: unitfiles.Units, active: set[str]) -> Plan:
    plan = Plan()
    for name in sorted(active & old.keys()):
        if name not in new:
            plan.stop.add(name)
        elif old[name].text != new[name].text:
            _change(plan, name, new[name])
        elif old[name].reload_triggers != new[name].reload_triggers:
            plan.reload.add(name)
    return plan


def _change(plan: Plan, name: str, unit: unitfiles.Unit) -> None:
    if unit.reload_if_changed:
        plan.reload.add(name)
    elif not unit.restart_if_changed:
        print(f"NOT restarting the changed unit {name}", file=sys.stderr)
    elif unit.stop_if_changed:
        plan.stop.add(name)
        plan.start.add(name)
    else:
        plan.restart.add(name)


def listed(path: Path) -> set[str]:
    if not path.exists():
        return set()
    names = set(path.read_text().split())
    path.unlink()
    return names


def carry_out(plan: Plan, system: Path) -> bool:
    if plan.stop:
        systemctl("stop", "--", *sorted(plan.stop))
    activated = subprocess.run([system / "activate"]).returncode == 0
    # Failures of before are forgotten: what has failed at the end has failed under this system.
    systemctl("reset-failed")
    systemctl("daemon-reload")
    running = units_in("active", "activating")
    plan.restart |= listed(RESTART_LIST) & running - plan.start
    plan.reload |= listed(RELOAD_LIST) & running - plan.start - plan.restart
    subprocess.run(["/usr/bin/systemd-tmpfiles", "--create", "/etc/tmpfiles.d/00-nixos.conf"])
    done = [activated]
    for verb, units in (("reload", plan.reload), ("restart", plan.restart), ("start", plan.start)):
        if units:
            done.append(systemctl(verb, "--", *sorted(units)).returncode == 0)
    systemctl("start", "--", *TARGETS)
    return all(done)


def switch(system: Path, dry: bool) -> int:
    old = unitfiles.read(Path("/etc/systemd/system"))
    new = unitfiles.read(system / "etc/systemd/system")
    plan = plan_for(old, new, units_in("active", "activating"))
    if dry:
        plan.say("would")
        return 0
    plan.say("now:")
    done = carry_out(plan, system)
    if failed := units_in("failed", "auto-restart"):
        print(f"warning: the following units failed: {', '.join(sorted(failed))}", file=sys.stderr)
        systemctl("status", "--no-pager", "--full", "--", *sorted(failed))
    return 0 if done and not failed else 4


def main(system: Path, action: str) -> int:
    if action not in ("switch", "boot", "test", "dry-activate"):
        print(f"switch-to-configuration: unknown action {action!r}", file=sys.stderr)
        return 1
    if not Path("/etc/NIXOS").exists():
        print("This is not a NixOS installation!", file=sys.stderr)
        return 1
    os.umask(0o022)
    LOCK.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with open(LOCK, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Could not acquire lock: another switch is under way", file=sys.stderr)
            return 1
        if action in ("switch", "boot"):
            bootloader.install(system)
        return 0 if action == "boot" else switch(system, dry=action == "dry-activate")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""))
