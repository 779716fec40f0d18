"""Makes a system the running one and, or, the one that boots next: `switch.py SYSTEM ACTION`, one of ACTIONS.

What matters of the real program: the units that were removed stop, changed ones restart or reload as they say,
failures of before are forgotten, what the active targets want starts - in the middle of a boot that is little -,
status 4 tells that units failed, 2 that the activation did, 1 that an inhibitor forbids the switch. What a switch
that was cut off had still to do, the next one does. Not modelled: sockets, mounts, slices, user units, a new systemd.
"""

import fcntl
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import bootloader
import inhibitors
import unitfiles

LOCK = Path("/run/nixos/switch-to-configuration.lock")
RESTART_LIST = Path("/run/nixos/activation-restart-list")
RELOAD_LIST = Path("/run/nixos/activation-reload-list")
ACTIONS = ("switch", "boot", "test", "dry-activate", "check")
# Where it is kept what is still to be done, for the next switch, should this one be cut off.
LISTS = {verb: Path(f"/run/nixos/{verb}-list") for verb in ("start", "restart", "reload")}


@dataclass
class Plan:
    """The fate of the units that run now."""

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


def unit_properties(unit: str, *properties: str) -> dict[str, str]:
    lines = systemctl("show", unit, f"--property={','.join(properties)}").stdout.splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def active_targets() -> set[str]:
    """The targets whose dependencies a switch starts: those that are active, unless they may not be started by hand."""
    targets = {unit for unit in units_in("active") if unit.endswith(".target")}
    return {
        target for target in targets if unit_properties(target, "RefuseManualStart").get("RefuseManualStart") == "no"
    }


def failed_units() -> set[str]:
    """Units that failed, or that systemd starts again after a failure."""
    again = units_in("auto-restart")
    return units_in("failed") | {
        unit for unit in again if unit_properties(unit, "ExecMainStatus").get("ExecMainStatus", "0") != "0"
    }


def plan_for(old: unitfiles.Units, new: unitfiles.Units, active: set[str]) -> Plan:
    plan = Plan()
    for name in sorted(active & old.keys()):
        if name not in new:
            plan.stop.add(name)
        elif name.endswith(".target"):
            continue
        elif old[name].text != new[name].text:
            _change(plan, name, new[name])
        elif old[name].reload_triggers != new[name].reload_triggers:
            plan.reload.add(name)
    return plan


def _change(plan: Plan, name: str, unit: unitfiles.Unit) -> None:
    if unit.reload_if_changed:
        plan.reload.add(name)
    elif not unit.restart_if_changed or unit.only_manual_start:
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


def keep(plan: Plan) -> None:
    for verb, path in LISTS.items():
        path.write_text("".join(f"{unit}\n" for unit in sorted(getattr(plan, verb))))


def carry_out(plan: Plan, targets: set[str], system: Path) -> int:
    """Return the status: 0, or 2 where the activation failed, 4 where a unit's job did."""
    status = 0
    if plan.stop:
        systemctl("stop", "--", *sorted(plan.stop))
    if subprocess.run([system / "activate"]).returncode:
        print("Failed to run activate script", file=sys.stderr)
        status = 2
    # Failures of before are forgotten: what has failed at the end has failed under this system.
    systemctl("reset-failed")
    systemctl("daemon-reload")
    running = units_in("active", "activating")
    plan.restart |= listed(RESTART_LIST) & running - plan.start
    plan.reload |= listed(RELOAD_LIST) & running - plan.start - plan.restart
    # What is not active any more is started, since a reload would fail.
    plan.start |= plan.reload - running
    plan.reload &= running
    subprocess.run(["/usr/bin/systemd-tmpfiles", "--create", "/etc/tmpfiles.d/00-nixos.conf"])
    for verb, units in (("reload", plan.reload), ("restart", plan.restart), ("start", plan.start | targets)):
        if units and systemctl(verb, "--", *sorted(units)).returncode:
            status = 4
    return status


def switch(system: Path, dry: bool) -> int:
    old = unitfiles.read(Path("/etc/systemd/system"))
    new = unitfiles.read(system / "etc/systemd/system")
    plan = plan_for(old, new, units_in("active", "activating"))
    for verb, path in LISTS.items():
        getattr(plan, verb).update(path.read_text().split() if path.exists() else ())
    if dry:
        plan.say("would")
        return 0
    plan.say("now:")
    targets = active_targets()
    keep(plan)
    status = carry_out(plan, targets, system)
    for path in LISTS.values():
        path.unlink()
    if failed := failed_units():
        print(f"warning: the following units failed: {', '.join(sorted(failed))}", file=sys.stderr)
        systemctl("status", "--no-pager", "--full", "--", *sorted(failed))
        status = 4
    return status


def main(system: Path, action: str) -> int:
    if action not in ACTIONS:
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
        if not inhibitors.permit(system, action):
            return 1
        if action == "check":
            return 0
        if action in ("switch", "boot"):
            bootloader.install(system)
        return 0 if action == "boot" else switch(system, dry=action == "dry-activate")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""))
