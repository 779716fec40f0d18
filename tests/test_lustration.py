"""The power fails anywhere in stage 1 of the first boot: the next boot keeps what Debian listed, and moves the rest.

What runs is the rehearsal's stage 1, which moves and copies in the real one's order, with the bootstrap system's own
commands after it. power-cut.sh says what a power cut is.
"""

import signal
import stat
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
SERVER = HERE.parent / "rehearsal/server"
COMMANDS = HERE.parent / "nix/finish-lustration.sh"
NEVER = 0
KEEP = ("etc/nixos", "etc/ssh/ssh_host_ed25519_key", "etc/ssh/ssh_host_ed25519_key.pub", "etc/machine-id")
STAYS = {"boot/grub/grub.cfg": 0o644, "nix/store/system": 0o444}
LISTED = {
    "etc/machine-id": 0o444,
    "etc/nixos/flake.nix": 0o644,
    "etc/nixos/secrets/headscale.yaml": 0o600,
    "etc/ssh/ssh_host_ed25519_key": 0o600,
    "etc/ssh/ssh_host_ed25519_key.pub": 0o644,
}
DEBIANS = {
    "bin": 0o755,
    "etc/passwd": 0o644,
    "etc/ssh/sshd_config": 0o644,
    "root/.profile": 0o644,
    "swapfile": 0o600,
    "usr/bin/sh": 0o755,
    "var/lib/cloud/seed": 0o600,
}


def debian(root: Path) -> Path:
    """A disk as become-nixos.sh leaves it; a file's content is its path."""
    for name, mode in (STAYS | LISTED | DEBIANS).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
        (root / name).chmod(mode)
    (root / "etc/nixos").chmod(0o700)
    (root / "etc/NIXOS_LUSTRATE").write_text("".join(f"{path}\n" for path in KEEP))
    return root


def boot(root: Path, deadly: int = NEVER) -> bool:
    """True where stage 1 came to its end."""
    command = ["sh", SERVER / "power-cut.sh", str(deadly), SERVER / "stage-1.sh", root, COMMANDS]
    process = subprocess.run(command, capture_output=True, text=True, start_new_session=True)
    assert process.returncode in (0, -signal.SIGKILL), process.stderr
    return process.returncode == 0


def assert_lustrated(root: Path, case: str) -> None:
    moved = {f"old-root/{name}": mode for name, mode in (LISTED | DEBIANS).items()}
    modes = STAYS | LISTED | moved
    files = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}
    # The system's activation makes it too.
    files.pop("etc/NIXOS", None)
    assert {name: stat.S_IMODE(path.stat().st_mode) for name, path in files.items()} == modes, case
    assert {name: path.read_text() for name, path in files.items()} == {
        name: name.removeprefix("old-root/") for name in modes
    }, case
    assert stat.S_IMODE((root / "etc/nixos").stat().st_mode) == 0o700, case


def test_cut_off_once_at_any_step(tmp_path: Path):
    root = debian(tmp_path / "whole")
    assert boot(root)
    assert_lustrated(root, "never cut off")
    steps = int((tmp_path / "whole.steps").read_text())
    assert steps > 40
    for step in range(1, steps + 1):
        root = debian(tmp_path / str(step))
        assert not boot(root, step)
        assert boot(root)
        assert_lustrated(root, f"cut off at step {step}")


def test_cut_off_again_and_again_each_time_a_step_later(tmp_path: Path):
    root = debian(tmp_path / "disk")
    step = 1
    while not boot(root, step):
        step += 1
    assert step > 15
    assert_lustrated(root, f"cut off {step} times")


def test_what_runs_after_stage_1_finds_it_on_the_disk(tmp_path: Path):
    """Otherwise another cut would repeat what has been undone since, and lose what was kept."""
    root = debian(tmp_path / "disk")
    assert boot(root)
    assert (tmp_path / "disk.unwritten").read_text() == ""


def test_a_boot_after_it_changes_nothing(tmp_path: Path):
    root = debian(tmp_path / "disk")
    assert boot(root)
    (root / "etc/machine-id").unlink()
    (root / "etc/nixos/flake.nix").write_text("of a deploy")
    assert boot(root)
    assert not (root / "etc/machine-id").exists()
    assert (root / "etc/nixos/flake.nix").read_text() == "of a deploy"
