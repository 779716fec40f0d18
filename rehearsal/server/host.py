"""The server in the words of its operator: the host by its console, headscale by its command."""

import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rehearsal.server.machines import Machines

DEPLOYMENT = "/var/lib/deployment"


@dataclass(frozen=True)
class Host:
    """The one server of a world, by its console: as root, without SSH."""

    machines: Machines
    server_id: Callable[[], int]

    def attempt(self, argv: Sequence[str], text: str = "", timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command; its status is the caller's to judge."""
        return self.machines.run(self.server_id(), argv, text, timeout)

    def run(self, *argv: str) -> str:
        """The output of a command that has to succeed."""
        process = self.attempt(argv)
        words = f"{' '.join(argv)} on the server: {process.returncode}: {process.stderr.strip()}"
        assert process.returncode == 0, words
        return process.stdout.strip()

    def read(self, path: str) -> str:
        return self.run("cat", path)

    def show(self, unit: str, field: str) -> str:
        """A property of a unit, such as ActiveState."""
        return self.run("systemctl", "show", "-P", field, unit)

    def main_pid(self, unit: str) -> str:
        return self.show(unit, "MainPID")

    def restart(self, *units: str) -> None:
        self.run("systemctl", "restart", *units)

    def start(self, *units: str) -> None:
        self.run("systemctl", "start", *units)

    def stop(self, *units: str) -> None:
        self.run("systemctl", "stop", *units)

    def failed_units(self) -> str:
        """A line for each failed unit, which begins with its name."""
        return self.run("systemctl", "list-units", "--failed", "--plain", "--no-legend")

    def deploying(self, *states: str) -> str:
        """The unit that deploys, if it is in one of these states."""
        state = f"--state={','.join(states or ('activating', 'active'))}"
        return self.run("systemctl", "list-units", "--plain", "--no-legend", state, "deploy-*.service").split(" ")[0]

    def journal(self, unit: str) -> str:
        return self.run("journalctl", "--unit", unit, "--output", "cat")

    def boot_id(self) -> str:
        return self.read("/proc/sys/kernel/random/boot_id")

    def boots(self) -> int:
        return len(self.run("journalctl", "--list-boots", "--quiet").splitlines())

    def system(self, which: str) -> str:
        """The path of the system that is "current" or "booted"."""
        return self.run("readlink", "-f", f"/run/{which}-system")

    def boot_default(self) -> str:
        return self.run("readlink", "-f", "/nix/var/nix/profiles/system")

    def deploys_begun(self) -> int:
        return int(self.read(f"{DEPLOYMENT}/begun"))

    def rollback_reason(self) -> str:
        return self.read(f"{DEPLOYMENT}/reason")

    def web_clients(self) -> set[str]:
        """The far ends of connections from outside to NGINX."""
        listed = self.run("ss", "-Htn", "state", "established", "sport", "=", ":443").splitlines()
        return {line.split()[3] for line in listed if not line.split()[3].startswith(("127.", "[::1]"))}


@dataclass(frozen=True)
class Headscale:
    """headscale by its own command on the server."""

    host: Host

    def nodes(self) -> list[dict[str, Any]]:
        return self._list("nodes")

    def users(self) -> list[dict[str, Any]]:
        return self._list("users")

    def preauth_keys(self) -> list[dict[str, Any]]:
        return self._list("preauthkeys")

    def expire_key(self, id: str) -> None:
        self.host.run("headscale", "preauthkeys", "expire", "--id", id)

    def delete_key(self, id: str) -> None:
        self.host.run("headscale", "preauthkeys", "delete", "--id", id)

    def delete_user(self, name: str) -> None:
        self.host.run("headscale", "users", "destroy", "--force", "--name", name)

    def version(self) -> str:
        return self.host.run("headscale", "version")

    def _list(self, kind: str) -> list[dict[str, Any]]:
        """All of a kind; headscale prints null where there is none."""
        listed: list[dict[str, Any]] | None = json.loads(self.host.run("headscale", kind, "list", "--output", "json"))
        return listed or []
