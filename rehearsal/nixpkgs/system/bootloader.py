"""Writes what GRUB would read, and calls grub-install as NixOS does when it is told to.

The rehearsal boots what an entry of grub.cfg names by `init=`: the first one, or once the `next_entry` of grubenv. Not
modelled: GRUB.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

GRUB = Path("/boot/grub")
PROFILES = Path("/nix/var/nix/profiles")
TARGETS = {"x86_64-linux": ("i386-pc", "x86_64-efi"), "aarch64-linux": (None, "arm64-efi")}


def install(system: Path) -> None:
    grub = json.loads((system / "description.json").read_text())["grub"]
    if os.environ.get("NIXOS_INSTALL_BOOTLOADER") == "1":
        for command in commands(grub):
            subprocess.run(command, check=True)
    GRUB.mkdir(parents=True, exist_ok=True)
    _write(GRUB / "grub.cfg", configuration(system))
    _write(GRUB / "state", f"grub\n2.12\n{grub['device']}\n{grub['efiSysMountPoint']}\n")
    os.sync()


def commands(grub: dict[str, Any]) -> list[list[str]]:
    bios, efi = TARGETS[grub["platform"]]
    common = ["/usr/sbin/grub-install", "--recheck", "--boot-directory=/boot"]
    calls = []
    if bios is not None and grub["device"] != "nodev":
        calls.append([*common, f"--target={bios}", grub["device"]])
    if grub["efiSupport"]:
        removable = ["--no-nvram", "--removable"] if grub["efiInstallAsRemovable"] else []
        calls.append([*common, f"--target={efi}", f"--efi-directory={grub['efiSysMountPoint']}", *removable])
    return calls


def configuration(system: Path) -> str:
    generations = sorted(PROFILES.glob("system-*-link"), key=_number, reverse=True)
    former = [entry(f"NixOS - Configuration {_number(link)}", link.resolve()) for link in generations]
    menu = [entry("NixOS", system), 'submenu "NixOS - All configurations" {', *former, "}\n"]
    return "\n".join(["set default=0", "set timeout=5", *menu])


def _number(link: Path) -> int:
    return int(link.name.split("-")[1])


def entry(title: str, system: Path) -> str:
    parameters = (system / "kernel-params").read_text()
    return (
        f'menuentry "{title}" {{\n'
        "  search --set=drive1 --label nixos\n"
        f"  linux ($drive1){system}/kernel init={system}/init {parameters}\n"
        f"  initrd ($drive1){system}/initrd\n"
        "}\n"
    )


def _write(path: Path, text: str) -> None:
    beside = path.with_name(f"{path.name}.tmp")
    beside.write_text(text)
    beside.replace(path)
