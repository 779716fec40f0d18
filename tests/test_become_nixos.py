"""become-nixos.sh in Debian's image, not booted: whom it refuses, and that it may be killed anywhere and run again."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from server_image import HERE, NIX, ServerImage

from components.nixos import REMOTE, nix_files, tar

SCRIPT = REMOTE / "become-nixos.sh"
PATH = "PATH=/usr/local/bin:/usr/sbin:/usr/bin"
REFUSED = {
    "sed -i s/^VERSION_ID=.*/VERSION_ID=12/ /usr/lib/os-release": "this is debian 12, not the Debian 13",
    "echo another >/etc/become-nixos.allow": "does not name this stack's server",
    "rm /etc/become-nixos.allow": "does not name this stack's server",
    "mkdir -p /var/lib/headscale": "this server is in use",
    "sed -i s,/dev/sda1,/dev/vda1, /usr/bin/findmnt": "/ is on /dev/vda1 ext4, not on /dev/sda1",
    "sed -i s,ext4,btrfs, /usr/bin/findmnt": "/ is on /dev/sda1 btrfs, not on /dev/sda1 with ext4",
    """sed -i '/boot")/s,sda1,sdb1,' /usr/bin/findmnt""": "/boot is on /dev/sdb1 ext4, not on /dev/sda1",
    "sed -i s,sda15,sdb1, /usr/bin/findmnt": "/boot/efi is not /dev/sda15",
    "sed -i s,vfat,ntfs, /usr/bin/lsblk": "/dev/sda15 is no EFI system partition",
    "sed -i s,21686148,0fc63daf, /usr/bin/lsblk": "/dev/sda14 is no BIOS boot partition",
    "sed -i s,37000,12287, /usr/bin/df": "less than 12 GiB are free",
    "mount --bind /bundle/little-memory /proc/meminfo": "less than 3.5 GiB of memory",
    "printf '#!/bin/sh\\necho riscv64\\n' >/usr/bin/uname": "not for a machine of type riscv64",
}
END = """
find /boot /etc -type f ! -name '*-' ! -name '*.lock' -exec sha256sum {} + | sort -k 2
stat -c '%n %a %s' /swapfile
find /nix/var/nix/profiles -type l -printf '%p %l\\n' | sort
tail -n 2 /run/calls
"""


@pytest.fixture
def server(server: ServerImage, tmp_path: Path) -> Iterator[ServerImage]:
    """A fresh server of the stack with the bundle in /bundle; what needs a booted system only notes its call."""
    fresh = ServerImage(server.layers, tmp_path)
    for path, text in files().items():
        fresh.put(path, text)
    for name in ("systemctl", "systemd-run", "cloud-init"):
        fresh.put(f"/usr/local/bin/{name}", f'#!/bin/sh\necho "{name} $*" >>/run/calls\n')
        (tmp_path / "upper/usr/local/bin" / name).chmod(0o755)
    tree = nix_files() | {"deployment.json": (NIX / "deployment.json").read_bytes()}
    (tmp_path / "upper/bundle/tree.tar").write_bytes(tar(tree))
    yield fresh
    shutil.rmtree(tmp_path)


def files() -> dict[str, str]:
    debian = ("/boot/vmlinuz-6.12", "/boot/initrd.img-6.12", "/boot/efi/EFI/BOOT/fbx64.efi")
    return {
        "/bundle/run.sh": SCRIPT.read_text(),
        "/bundle/marker": "mine\n",
        "/etc/become-nixos.allow": "mine\n",
        "/bundle/little-memory": "MemTotal: 2000000 kB\n",
        "/bundle/kill_at_line.sh": (HERE / "kill_at_line.sh").read_text(),
        "/etc/ssh/ssh_host_ed25519_key": "private",
        "/etc/ssh/ssh_host_ed25519_key.pub": "public",
        "/etc/machine-id": "0123",
        **dict.fromkeys(debian, "Debian's"),
    }


def shell(server: ServerImage, script: str) -> tuple[int, str]:
    """The status of a script, and all that it said; it is process 1, with whose end everything ends."""
    process = server.run("env", PATH, "sh", "-c", f"cd /bundle; {script}\nexit $?")
    return process.returncode, process.stdout + process.stderr


def convert(server: ServerImage, deadly: int = 0) -> tuple[int, str]:
    return shell(server, f"bash kill_at_line.sh {deadly} ./run.sh convert")


def traces(server: ServerImage) -> dict[str, tuple[int, int]]:
    """Every file above the image, with when and what it was."""
    matches = (path for path in (server.disk / "upper").rglob("*"))
    return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_size) for path in matches}


@pytest.mark.parametrize("otherwise", REFUSED)
def test_any_other_machine_is_refused_and_left_as_it_is(server: ServerImage, otherwise: str):
    shell(server, otherwise)
    before = traces(server)
    again = otherwise if otherwise.startswith("mount") else ":"
    status, output = shell(server, f"{again}; sh run.sh")
    assert status == 64 and REFUSED[otherwise] in output, output
    assert "nothing was changed" in output and "pulumi up --replace" in output
    assert traces(server) == before


def test_a_nixos_is_left_as_it_is(server: ServerImage):
    shell(server, "sed -i s/^ID=.*/ID=nixos/ /usr/lib/os-release")
    before = traces(server)
    assert shell(server, "sh run.sh") == (0, "become-nixos: this host is NixOS already\n")
    assert traces(server) == before


def test_killed_at_each_of_its_lines_and_run_again_it_finishes(server: ServerImage, tmp_path_factory):
    """Slow by design: each run gets one line further than the one before, over what all before it have left."""
    twin = ServerImage(server.layers, tmp_path_factory.mktemp("twin"))
    shutil.copytree(server.disk / "upper", twin.disk / "upper")
    assert convert(twin)[0] == 0
    lines = list(dict.fromkeys(map(int, twin.read("/run/lines").split())))
    assert len(lines) > 60, lines
    text = SCRIPT.read_text().splitlines()
    for line in lines:
        status, output = convert(server, line)
        assert status == 137, f"not killed at {line}, {text[line - 1]}, but left with {status}:\n{output}"
    status, output = convert(server)
    assert status == 0, output
    assert shell(server, END) == shell(twin, END)


def test_the_end_is_a_disk_that_boots_nixos_and_keeps_its_identity(server: ServerImage):
    status, output = convert(server)
    assert status == 0, output
    keep = "etc/nixos\netc/ssh/ssh_host_ed25519_key\netc/ssh/ssh_host_ed25519_key.pub\netc/machine-id\n"
    assert server.read("/etc/NIXOS_LUSTRATE") == keep
    assert server.output("sh", "-c", "cd /boot && find * -type f | sort").split() == [
        *("efi/EFI/BOOT/BOOTX64.EFI", "grub/grub.cfg", "grub/state"),
    ]
    calls = server.read("/run/calls").splitlines()
    assert calls[-2].endswith("systemctl reboot") and calls[-1] == "systemctl stop ssh.socket ssh.service"


def test_debians_boot_loader_stays_until_there_is_another(server: ServerImage):
    shell(server, "mv /usr/sbin/grub-install /bundle; ln -s /bin/false /usr/sbin/grub-install")
    status, output = convert(server)
    assert status != 0, output
    for boot_file in ("vmlinuz-6.12", "initrd.img-6.12", "efi/EFI/debian/shimx64.efi"):
        server.read(f"/boot/{boot_file}")
    assert "reboot" not in server.read("/run/calls")
    shell(server, "mv /bundle/grub-install /usr/sbin")
    status, output = convert(server)
    assert status == 0, output
