"""The servers behind the Hetzner emulator: system containers booted by systemd-nspawn, one console log for each.

A reboot is a new boot of the same disk: the boot loader's entry says what is started, with stage 1 before a NixOS. A
server's own poweroff leaves it off.
Not modelled: a kernel of its own (so no modules, no AppArmor, no kernel log), limits of memory and processor, a clock.
"""

import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from rehearsal.emulators.hetzner import FirewallRule, ServerSpec
from rehearsal.internet import firewall
from rehearsal.internet.network import server_link
from rehearsal.sandbox import cgroups
from rehearsal.sandbox.capsule import Run
from rehearsal.sandbox.wait import eventually
from rehearsal.server.disk import Disk, mac

REBOOT = 133
GRACEFUL_REBOOT = signal.SIGRTMIN + 5
NSPAWN = (
    *("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--console=read-only"),
    *("--capability=CAP_NET_ADMIN", "--resolv-conf=off", "--timezone=off", "--link-journal=no"),
    f"--kill-signal={int(signal.SIGRTMIN) + 3}",
)
# Without it the container sees the host's interfaces in /sys, and its own network settings are read-only.
ENVIRONMENT = {"SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
CONSOLE = {"PATH": "/run/current-system/sw/bin:/usr/sbin:/usr/bin", "HOME": "/root", "TERM": "dumb"}


@dataclass
class Machine:
    """One server; `lock` keeps orders and what the server does by itself apart.

    The next boot loses its power once, before the step of stage 1 that `power_fails_at` counts; 0 is none.
    """

    spec: ServerSpec
    run: Run
    disk: Disk
    console: Path
    ca_bundle: str
    lock: threading.RLock = field(default_factory=threading.RLock)
    process: subprocess.Popen[bytes] | None = None
    power_fails_at: int = 0
    link: ExitStack = field(default_factory=ExitStack)

    @property
    def name(self) -> str:
        return f"srv-{self.spec.id}"

    def power_on(self) -> None:
        with self.lock:
            if self.process is None:
                self._boot()

    def power_off(self) -> None:
        """Pull the plug: whatever runs is killed."""
        with self.lock:
            process, self.process = self.process, None
            cgroups.destroy(f"{self.run.name}/{self.name}")
            if process is not None:
                process.wait()
            self.link.close()

    def _boot(self) -> None:
        init = self.disk.boot_loader()
        if init and self.power_fails_at:
            self.disk.stage_1(init, self.console, self.ca_bundle, self.power_fails_at)
            self.power_fails_at = 0
            init = self.disk.boot_loader()
        if init:
            self.disk.stage_1(init, self.console, self.ca_bundle)
        spec = self.spec
        link = server_link(self.name, mac=mac(spec.id), ipv4=spec.ipv4, ipv6=spec.ipv6, run=self.run)
        self.link.enter_context(link)
        what = [f"--directory={self.disk.root}", f"--machine={spec.name}"]
        network = f"--network-namespace-path=/run/netns/{self.name}"
        argv = [*NSPAWN, *what, network, *([init] if init else ["--boot"])]
        with open(self.console, "ab") as output:
            self.process = subprocess.Popen(
                cgroups.command(self.run.cgroups(self.name), argv),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=ENVIRONMENT,
                start_new_session=True,
            )
        threading.Thread(target=self._watch, args=[self.process], name=self.name, daemon=True).start()

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        status = process.wait()
        with self.lock:
            if self.process is not process:
                return
            if status != REBOOT:
                with open(self.console, "a") as console:
                    console.write(f"\nThe server is off: systemd-nspawn left with status {status}.\n")
            self.power_off()
            if status == REBOOT:
                self._boot()

    def leader(self) -> int:
        """The process number of the container's process 1, seen from here."""
        process = self.process
        if process is None:
            raise ProcessLookupError(f"server {self.spec.name} is off; its last words are in {self.console}")
        return eventually(lambda: _leader(process.pid), f"{self.name} to have a process 1", timeout=5)


def _leader(nspawn: int) -> int | None:
    children = Path(f"/proc/{nspawn}/task/{nspawn}/children").read_text().split()
    own = os.readlink(f"/proc/{nspawn}/exe")
    return next((int(child) for child in children if _is_first(child, own)), None)


def _is_first(pid: str, nspawn: str) -> bool:
    """True where a child of nspawn is process 1 of the container: in its namespace, and no longer nspawn's code."""
    status = Path(f"/proc/{pid}/status").read_text()
    inside = any(line.startswith("NSpid:") and line.split()[2:] == ["1"] for line in status.splitlines())
    return inside and os.readlink(f"/proc/{pid}/exe") != nspawn


class Machines:
    """Implements the Hetzner emulator's Hypervisor; `image` is the overlay's lower layers, the highest first."""

    def __init__(self, *, run: Run, image: Sequence[Path], ca_bundle: Path) -> None:
        self._run = run
        self._image = tuple(image)
        self._ca_bundle = ca_bundle.read_text()
        self._machines: dict[int, Machine] = {}

    def __enter__(self) -> "Machines":
        return self

    def __exit__(self, *_: object) -> None:
        for server_id in list(self._machines):
            self.delete(server_id)

    def create(self, spec: ServerSpec) -> None:
        disk = Disk(directory=self._run.path / "servers" / str(spec.id), image=self._image)
        console = self._run.directory("logs") / f"console-{spec.name}-{spec.id}.log"
        machine = Machine(spec=spec, run=self._run, disk=disk, console=console, ca_bundle=self._ca_bundle)
        self._machines[spec.id] = machine
        disk.create(spec, self._ca_bundle)
        machine.power_on()

    def delete(self, server_id: int) -> None:
        machine = self._machines.pop(server_id, None)
        if machine is not None:
            machine.power_off()
            machine.disk.delete()
        firewall.release(server_id)

    def power_on(self, server_id: int) -> None:
        self[server_id].power_on()

    def power_off(self, server_id: int) -> None:
        self[server_id].power_off()

    def reboot(self, server_id: int) -> None:
        """Ask the system to reboot, as the button does; see the boot_id for whether it has."""
        os.kill(self[server_id].leader(), GRACEFUL_REBOOT)

    def set_firewall(self, server_id: int, rules: Sequence[FirewallRule] | None) -> None:
        firewall.guard(server_id, rules)

    def __getitem__(self, server_id: int) -> Machine:
        return self._machines[server_id]

    def console(self, server_id: int) -> str:
        return self[server_id].console.read_text(errors="replace")

    def shell(self, server_id: int) -> list[str]:
        """The words before a command that run it on the server as its console would: as root, without SSH."""
        spaces = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wdns=/")
        return ["nsenter", f"--target={self[server_id].leader()}", *spaces, "--"]

    def run(
        self, server_id: int, argv: Sequence[str], text: str = "", timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the server; its status is the caller's to judge."""
        command = [*self.shell(server_id), *argv]
        return subprocess.run(command, input=text, capture_output=True, text=True, env=CONSOLE, timeout=timeout)
