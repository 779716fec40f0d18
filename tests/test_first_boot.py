"""Becoming NixOS where there is firmware, a disk and a kernel: what the script leaves boots, with what it must keep."""

from pathlib import Path

from virtual_machine import HERE, VirtualMachine, machine

from components.nixos import RECEIVE, REMOTE, bundle, nix_files, tar

SAMPLE = HERE.parent / "nix/deployment.json"
IDENTITY = "cd /etc && sha256sum machine-id ssh/ssh_host_ed25519_key* && stat -c '%a %u %g' ssh/ssh_host_ed25519_key"


def test_debian_becomes_a_system_that_either_firmware_boots(debian_disk: Path, tmp_path: Path):
    with machine(debian_disk, "bios", *drive(tmp_path / "orders")) as server:
        identity = convert(server)
        server.await_ready("nixos")
        assert server.run(IDENTITY) == identity
        looks_new(server)
        server.power_off("sync; poweroff -f")
    with machine(debian_disk, "efi") as server:
        server.await_ready("nixos")
        assert server.run(IDENTITY) == identity


def test_the_power_fails_while_stage_1_moves_debian_away(debian_disk: Path, tmp_path: Path):
    with machine(debian_disk, "efi", *drive(tmp_path / "orders")) as server:
        identity = convert(server)
        server.await_word("lustrating the root file system")
    with machine(debian_disk, "bios") as server:
        server.await_ready("nixos")
        assert server.run(IDENTITY) == identity
        looks_new(server)


def convert(server: VirtualMachine) -> str:
    """Give the server its orders; the identity that it must keep."""
    server.await_ready("debian")
    identity = server.run(IDENTITY)
    server.run("echo mark >/etc/become-nixos.allow && mkdir /orders && tar -x -C /orders -f /dev/vda")
    server.run("sh /orders/qemu_convert.sh")
    return identity


def drive(file: Path) -> list[str]:
    """QEMU's words for a disk that holds, as a tar, what the server is given."""
    tree = nix_files() | {"deployment.json": SAMPLE.read_bytes()}
    run = (REMOTE / "become-nixos.sh").read_bytes()
    orders = {
        "receive.sh": RECEIVE.encode(),
        "bundle": bundle({"run.sh": run, "marker": b"mark\n", "tree.tar": tar(tree)}).encode(),
        "qemu_convert.sh": (HERE / "qemu_convert.sh").read_bytes(),
    }
    file.write_bytes(tar(orders))
    return ["-drive", f"if=virtio,format=raw,readonly=on,file={file}"]


def looks_new(server: VirtualMachine) -> None:
    """Nothing of Debian is where NixOS would find it; all of it is in /old-root."""
    assert server.run("cat /old-root/etc/debian_version").startswith("13")
    assert server.run("ls -A / | xargs") == "boot dev etc nix old-root proc run sys tmp var\n"
    # The system's activation makes /etc/NIXOS too.
    files = server.run("cd /etc && find . -type f ! -path './nixos/*' ! -name NIXOS").split()
    assert sorted(files) == sorted(["./machine-id", *(f"./ssh/ssh_host_ed25519_key{end}" for end in ("", ".pub"))])
    assert server.run("cat /etc/nixos/deployment.json") == SAMPLE.read_text()
    server.run("diff -r /old-root/etc/nixos /etc/nixos")
    assert server.run("cd /boot && find * -type f ! -path 'grub/*'").split() == ["efi/EFI/BOOT/BOOTX64.EFI"]
