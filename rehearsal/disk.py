"""A server's disk: an overlay over the image, the data it is first booted with, and what stage 1 does to it.

Not modelled: partitions, a boot loader that runs, an initrd. Stage 1 is played by stage-1.sh between two boots, and
/usr becomes the image's again, where NixOS would have none: the stand-in's programs are Debian's.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rehearsal.emulators.hetzner import ServerSpec
from rehearsal.network import GATEWAY6, RESOLVER
from rehearsal.processes import check

STAGE_1 = Path(__file__).with_name("stage-1.sh")
DEFAULT_ENTRY = re.compile(r"\binit=(/nix/store/\S+)")
CA_BUNDLES = ("usr/lib/rehearsal/ca.crt", "etc/ssl/certs/ca-certificates.crt")


@dataclass(frozen=True)
class Disk:
    """`root` is where it is mounted, from the server's creation to its deletion."""

    directory: Path
    image: tuple[Path, ...]

    @property
    def root(self) -> Path:
        return self.directory / "root"

    def create(self, spec: ServerSpec, ca_bundle: str) -> None:
        self.mount()
        self.trust(ca_bundle)
        self.root.joinpath("etc/resolv.conf").write_text(f"nameserver {RESOLVER}\n")
        seed = self.root / "var/lib/cloud/seed/nocloud"
        seed.mkdir(parents=True)
        for name, text in seed_files(spec).items():
            (seed / name).write_text(text)
            (seed / name).chmod(0o600)

    def mount(self) -> None:
        for name in ("upper", "work", "root"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        lower = ":".join(map(str, self.image))
        # redirect_dir lets stage 1 rename directories of the image, as it would on a real disk.
        layers = f"lowerdir={lower},upperdir={self.directory}/upper,workdir={self.directory}/work,redirect_dir=on"
        check(["mount", "-t", "overlay", "-o", layers, "overlay", str(self.root)])

    def trust(self, ca_bundle: str) -> None:
        for name in CA_BUNDLES:
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_text(ca_bundle)

    def delete(self) -> None:
        if self.root.is_mount():
            check(["umount", str(self.root)])
        if self.directory.exists():
            shutil.rmtree(self.directory)

    def lustrate(self, console: Path, ca_bundle: str) -> None:
        """Play stage 1 if /etc/NIXOS_LUSTRATE asks for it; what it says goes to the console."""
        if not (self.root / "etc/NIXOS_LUSTRATE").is_file():
            return
        with open(console, "ab") as output, open(STAGE_1) as script:
            argv = ["chroot", str(self.root), "/bin/sh", "-s"]
            subprocess.run(argv, stdin=script, stdout=output, stderr=output, check=True)
        check(["umount", str(self.root)])
        shutil.rmtree(self.directory / "upper/usr", ignore_errors=True)
        self.mount()
        (self.root / CA_BUNDLES[0]).write_text(ca_bundle)

    def init(self) -> str | None:
        """The program that the boot loader's default entry starts as process 1; None while there is no entry."""
        try:
            entry = DEFAULT_ENTRY.search((self.root / "boot/grub/grub.cfg").read_text())
        except FileNotFoundError:
            return None
        return entry and entry[1]


def seed_files(spec: ServerSpec) -> Mapping[str, str]:
    """What cloud-init finds: the user data unchanged, and around it what Hetzner's metadata service says."""
    metadata = {"instance-id": str(spec.id), "local-hostname": spec.name, "public-keys": list(spec.ssh_keys)}
    vendor = {"disable_root": False, "users": []}
    return {
        "meta-data": json.dumps(metadata),
        "user-data": spec.user_data,
        "vendor-data": "#cloud-config\n" + json.dumps(vendor),
        "network-config": json.dumps({"version": 1, "config": [interface(spec)]}),
    }


def interface(spec: ServerSpec) -> Mapping[str, object]:
    # Version 1: in version 2 cloud-init ignores on-link for IPv4, and the server has no default route.
    subnets: list[Mapping[str, object]] = []
    if spec.ipv4:
        subnets.append({"type": "dhcp", "ipv4": True})
    if spec.ipv6:
        address = spec.ipv6.replace("::/", "::1/")
        subnets.append({"type": "static", "ipv6": True, "address": address, "gateway": GATEWAY6})
    return {"type": "physical", "name": "eth0", "mac_address": mac(spec.id), "subnets": subnets}


def mac(server_id: int) -> str:
    return "96:00:" + ":".join(f"{byte:02x}" for byte in server_id.to_bytes(4, "big"))
