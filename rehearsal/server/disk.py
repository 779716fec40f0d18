"""A server's disk: an overlay over the image, the data it is first booted with, and what stage 1 does to it.

Not modelled: partitions, a boot loader that runs, an initrd. Stage 1 is played by stage-1.sh before each boot of a
NixOS. Of what it moves, the image's programs are put back, where NixOS would have none: the stand-in's are Debian's.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rehearsal.emulators.hetzner import ServerSpec
from rehearsal.internet.network import GATEWAY6, RESOLVER
from rehearsal.sandbox.processes import check

STAGE_1, POWER_CUT = (Path(__file__).with_name(name) for name in ("stage-1.sh", "power-cut.sh"))
ENTRIES = re.compile(r"\binit=(/nix/store/\S+)")
NEXT_ENTRY = re.compile(r"^next_entry=1>(\d+)\n", re.MULTILINE)
PROGRAMS = ("bin", "lib", "lib32", "lib64", "libx32", "sbin", "usr")
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

    def stage_1(self, init: str, console: Path, ca_bundle: str, cut: int = 0) -> None:
        """Play stage 1 of the NixOS whose `init` the boot loader has chosen; its output goes to the console.

        The power fails before step `cut`, counted from 1; 0 is none.
        """
        commands = self.root / Path(init).with_name("initrd").relative_to("/")
        argv: list[str | Path] = ["sh", POWER_CUT, str(cut), STAGE_1, self.root, commands]
        with open(console, "ab") as output:
            subprocess.run(argv, stdout=output, stderr=output, start_new_session=True, check=cut == 0)
        if cut == 0:
            self._put_programs_back(ca_bundle)

    def _put_programs_back(self, ca_bundle: str) -> None:
        # Where something of the image was moved, the upper layer has a character device.
        upper = self.directory / "upper"
        moved = [name for name in PROGRAMS if (upper / name).is_char_device()]
        if not moved:
            return
        check(["umount", str(self.root)])
        # An overlay cannot show one file of the image at two places.
        check(["rm", "-rf", *(str(place / name) for place in (upper, upper / "old-root") for name in moved)])
        self.mount()
        (self.root / CA_BUNDLES[0]).write_text(ca_bundle)

    def boot_loader(self) -> str | None:
        """Choose as GRUB does: the `init` of the default entry, or once of another entry; None while there is none."""
        try:
            entries = ENTRIES.findall((self.root / "boot/grub/grub.cfg").read_text())
        except FileNotFoundError:
            return None
        return entries[self._next_entry()] if entries else None

    def _next_entry(self) -> int:
        """Forget, as GRUB does, which entry is to be booted once: its place, 0 for the default one."""
        grubenv = self.root / "boot/grub/grubenv"
        text = grubenv.read_text() if grubenv.exists() else ""
        if (once := NEXT_ENTRY.search(text)) is None:
            return 0
        # The file keeps its length.
        grubenv.write_text(text.replace(once[0], "") + "#" * len(once[0]))
        return 1 + int(once[1])


def seed_files(spec: ServerSpec) -> Mapping[str, str]:
    """The files that cloud-init finds: the user data unchanged, and around it what Hetzner's metadata service says."""
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
