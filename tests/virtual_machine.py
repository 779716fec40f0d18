"""A Debian 13 with the disk of a Hetzner server in QEMU, under BIOS or EFI, that runs scripts sent over a virtio port.

The disk is made once, with Debian's boot loader on it. KVM where it runs a kernel, otherwise emulation.
Not modelled: a network, Hetzner's own image; the kernel is Debian's for clouds.
"""

import base64
import functools
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rehearsal.sandbox.processes import check, daemon
from rehearsal.sandbox.wait import eventually
from rehearsal.setup.cache import cached

HERE = Path(__file__).parent
STAGE_1 = [HERE.parent / "rehearsal/server/stage-1.sh", HERE.parent / "nix/finish-lustration.sh"]
RECIPE = [HERE / "qemu_disk", HERE / "qemu_disk.sh", *STAGE_1, HERE / "qemu_boot_loader.sh", Path(__file__)]
OVMF = Path("/usr/share/OVMF")
PACKAGES = (
    *("systemd-sysv", "openssh-server", "fdisk", "dosfstools", "e2fsprogs", "initramfs-tools", "busybox-static"),
    *("linux-image-cloud-amd64", "grub2-common", "grub-pc-bin", "grub-efi-amd64-bin"),
)
# As on a Debian cloud image: the root file system is first in name and last in place.
PARTITIONS = """label: gpt
14: start=2048, size=6144, type=21686148-6449-6E6F-744E-656564454649
15: start=8192, size=253952, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B
1: start=262144, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4
"""
ROOT_AT, SIZE = 128 << 20, 20 << 30
EMULATED = ("-accel", "tcg", "-cpu", "qemu64,svm=off")
BOOT, ORDER = 300.0, 300.0


@dataclass
class VirtualMachine:
    """A running machine; `console` is what its first serial port has said."""

    console: Path
    process: subprocess.Popen[bytes]
    port: socket.socket
    unread: bytes = b""

    def await_ready(self, system: str) -> None:
        """Wait for `system` to run scripts, past one reboot or none."""
        boot_line = self._line(BOOT)
        assert boot_line == f"ready {system}", f"{boot_line!r} instead of {system}\n{self.last_words()}"

    def run(self, script: str, expect: int = 0) -> str:
        """The output of a script; its status must be as expected."""
        self.port.sendall(base64.b64encode(script.encode()) + b"\n")
        status, _, text = self._line(ORDER).partition(" ")
        output = base64.b64decode(text).decode(errors="replace")
        assert int(status) == expect, f"{script}\nleft with status {status}:\n{output}{self.last_words()}"
        return output

    def await_word(self, word: str) -> None:
        """Wait for the console to say it."""
        eventually(lambda: word in self.console.read_text(errors="replace"), f"{word!r} on the console", BOOT)

    def power_off(self, command: str) -> None:
        self.port.sendall(base64.b64encode(command.encode()) + b"\n")
        self.process.wait(BOOT)

    def _line(self, patience: float) -> str:
        deadline = time.monotonic() + patience
        while b"\n" not in self.unread:
            self.port.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                received = self.port.recv(65536)
            except TimeoutError:
                raise TimeoutError(f"no word from the machine within {patience:g} s\n{self.last_words()}") from None
            assert received, f"the machine is off\n{self.last_words()}"
            self.unread += received
        line, self.unread = self.unread.split(b"\n", 1)
        return line.decode()

    def last_words(self) -> str:
        return "its console says last:\n" + self.console.read_text(errors="replace")[-3000:]


@contextmanager
def machine(disk: Path, firmware: str, *arguments: str) -> Iterator[VirtualMachine]:
    """Boot a disk under "bios" or "efi"; EFI's memory is new. Whatever `arguments` add is QEMU's."""
    console, address = disk.with_suffix(f".{firmware}.log"), disk.with_suffix(f".{firmware}.port")
    command = [
        # An interrupted test leaves no machine running.
        *("setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", *accelerator(), "-machine", "q35", "-m", "4096"),
        *("-nodefaults", "-display", "none", *_firmware(firmware, disk), *arguments),
        *("-drive", f"if=none,id=disk,format=raw,cache=unsafe,file={disk}"),
        *("-device", "virtio-scsi-pci", "-device", "scsi-hd,drive=disk", "-serial", f"file:{console}"),
        *("-chardev", f"socket,id=port,path={address},server=on,wait=off", "-device", "virtio-serial-pci"),
        *("-device", "virtserialport,chardev=port"),
    ]
    with daemon(command, log=disk.with_suffix(".qemu.log")) as process, socket.socket(socket.AF_UNIX) as port:
        eventually(lambda: port.connect_ex(str(address)) == 0, "QEMU to take connections", timeout=10)
        yield VirtualMachine(console, process, port)


def _firmware(firmware: str, disk: Path) -> list[str]:
    if firmware == "bios":
        return []
    memory = disk.with_suffix(".nvram")
    shutil.copyfile(OVMF / "OVMF_VARS_4M.fd", memory)
    drive = "if=pflash,format=raw,file="
    return ["-drive", f"{drive}{OVMF / 'OVMF_CODE_4M.fd'},readonly=on", "-drive", f"{drive}{memory}"]


@functools.cache
def accelerator() -> tuple[str, ...]:
    """KVM if a kernel comes so far as to miss its root file system; a KVM without hardware's help may not."""
    (kernel,) = debian().glob("vmlinuz-*")
    kvm = ("-accel", "kvm", "-cpu", "max")
    command = ["qemu-system-x86_64", *kvm, "-machine", "q35", "-nodefaults", "-display", "none", "-no-reboot"]
    try:
        process = subprocess.run([*command, "-kernel", kernel, "-append", "panic=-1"], capture_output=True, timeout=15)
    except subprocess.TimeoutExpired:
        return EMULATED
    return kvm if process.returncode == 0 else EMULATED


def debian_disk(target: Path) -> Path:
    """A copy of the disk of a Debian 13 that boots by itself, sparse."""
    check(["cp", "--sparse=always", "--reflink=auto", str(_booting() / "disk"), str(target)])
    return target


def debian() -> Path:
    """A directory with `disk`, which no firmware boots yet, and the kernel and initial ramdisk that do."""

    def make(directory: Path) -> None:
        root, disk = directory / "root", directory / "root/disk"
        _bootstrap(root)
        for part in (root / "boot").glob("[iv]*"):
            shutil.copyfile(part, directory / part.name)
        with disk.open("w") as file:
            file.truncate(SIZE)
        check(["chroot", str(root), "sfdisk", "--quiet", "/disk"], text=PARTITIONS)
        disk.rename(directory / "disk")
        features = "metadata_csum_seed,orphan_file"
        options = ["-q", "-O", features, "-i", "65536", "-E", f"offset={ROOT_AT}", "-d", str(root)]
        check(["mke2fs", "-t", "ext4", *options, str(directory / "disk"), f"{(SIZE - ROOT_AT) // 1024 - 1024}k"])
        shutil.rmtree(root)

    return cached("qemu-debian", RECIPE, make)


def _bootstrap(root: Path) -> None:
    skip = (f"--dpkgopt=path-exclude=/usr/share/{unread}/*" for unread in ("doc", "man", "locale"))
    hook = f"--customize-hook={HERE / 'qemu_disk.sh'}"
    check(
        [
            "mmdebstrap",
            "--mode=root",
            "--variant=minbase",
            "--include=" + ",".join(PACKAGES),
            *skip,
            hook,
            "trixie",
            str(root),
        ]
    )


def _booting() -> Path:
    def make(directory: Path) -> None:
        disk = directory / "disk"
        check(["cp", "--sparse=always", "--reflink=auto", str(debian() / "disk"), str(disk)])
        (kernel,), (initrd,) = debian().glob("vmlinuz-*"), debian().glob("initrd.img-*")
        start = ["-kernel", str(kernel), "-initrd", str(initrd), "-append", "root=/dev/sda1 rw console=ttyS0"]
        with machine(disk, "bios", *start) as debian_13:
            debian_13.await_ready("debian")
            debian_13.run((HERE / "qemu_boot_loader.sh").read_text())
            debian_13.power_off("poweroff")

    return cached("qemu-disk", RECIPE, make)
