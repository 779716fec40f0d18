"""Everything around the program at once: internet, clouds, certificate authority, servers, devices, the stack."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from rehearsal import devices, image, keys, plugins, programs
from rehearsal.acme import acme
from rehearsal.capsule import Run
from rehearsal.emulators.api import serve
from rehearsal.emulators.cloudflare import Cloudflare
from rehearsal.emulators.hetzner import Hetzner
from rehearsal.keys import StackSecrets
from rehearsal.leaks import forms
from rehearsal.machines import Machines
from rehearsal.names import names
from rehearsal.network import internet
from rehearsal.stack import PROGRAM, Stack
from rehearsal.wait import eventually

ZONE = {"example.org": "5b9e2f0c1d3a4e6f8a7b6c5d4e3f2a1b"}
HETZNER_PORT, CLOUDFLARE_PORT = 8001, 8002
WRITTEN_BY_DEPLOYS = ("/etc/nixos", "/nix/var/nix/profiles", "/var/lib/deployment", "/var/lib/sops-nix", "/boot")


@dataclass(frozen=True)
class Prepared:
    """What set-up made: `layers` is the server's disk image, the highest layer first."""

    programs: Path
    layers: tuple[Path, Path]
    has_ui_release: bool


def prepare(say: Callable[[str], None]) -> Prepared:
    """Make, or find in the cache, all that a rehearsal runs."""
    # The image waits for the network and the disk most of the time, the programs for the processor.
    with ThreadPoolExecutor() as pool:
        building, base = pool.submit(programs.build, say), pool.submit(image.base, say)
        release = pool.submit(image.ui_release, say)
    layer = image.layer(building.result())
    return Prepared(building.result(), (layer, base.result()), release.result() is not None)


@dataclass
class World:
    """The running world; what is looked at from the server's console does not pass any network."""

    run: Run
    prepared: Prepared
    machines: Machines
    hetzner: Hetzner
    cloudflare: Cloudflare
    stack: Stack
    secrets: StackSecrets
    ca_bundle: Path
    homes: Iterator[int] = field(default_factory=lambda: count(1))

    def console(self, *argv: str) -> str:
        """What a command prints on the server, where it must succeed."""
        done = self.machines.run(self.server_id, argv)
        assert done.returncode == 0, f"{' '.join(argv)} on the server: {done.returncode}: {done.stderr.strip()}"
        return done.stdout.strip()

    @property
    def server_id(self) -> int:
        (server,) = self.hetzner.project.servers.keys()
        return server

    def device(self, name: str, nat: str = "easy") -> AbstractContextManager[devices.Device]:
        return devices.device(
            name,
            number=next(self.homes),
            run=self.run,
            programs=self.prepared.programs,
            ca_bundle=self.ca_bundle,
            nat=nat,
        )

    def household(self, names: Sequence[str]) -> AbstractContextManager[list[devices.Device]]:
        return devices.household(
            names,
            number=next(self.homes),
            run=self.run,
            programs=self.prepared.programs,
            ca_bundle=self.ca_bundle,
        )

    def host_snapshot(self) -> set[str]:
        """Every file that a deploy writes, with the time of its last change, and headscale's users and keys."""
        files = self.console("find", *WRITTEN_BY_DEPLOYS, "-printf", "%p %T@ %C@\n").splitlines()
        users = self.console("headscale", "users", "list", "--output", "json")
        keys = self.console("headscale", "preauthkeys", "list", "--output", "json")
        return {*files, users, json.dumps([(key["id"], key.get("expiration")) for key in json.loads(keys)])}

    def deploys_begun(self) -> int:
        return int(self.console("cat", "/var/lib/deployment/begun"))

    def dialled_late(self) -> float:
        """Seconds between NixOS's sshd listening for the first time and the first login of `pulumi up`."""
        lines = self.console("journalctl", "--boot", "--unit", "sshd", "--output", "json").splitlines()
        entries = [json.loads(line) for line in lines]
        return (_first(entries, "Accepted publickey") - _first(entries, "Server listening")) / 1e6

    @contextmanager
    def boot_loader_read_only(self) -> Iterator[None]:
        """Activating a system still works, making it the boot default does not."""
        self.console("mount", "--bind", "--options", "ro", "/boot", "/boot")
        try:
            yield
        finally:
            self.console("umount", "/boot")

    @contextmanager
    def other_host_key(self) -> Iterator[None]:
        """While it lasts, the server shows a host key that is not the stack's."""
        key = "/etc/ssh/ssh_host_ed25519_key"
        self.console("mkdir", "-p", "/run/other")
        self.console("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/run/other/key")
        self.console("mount", "--bind", "/run/other/key", key)
        self.console("mount", "--bind", "/run/other/key.pub", f"{key}.pub")
        self.console("systemctl", "restart", "sshd.service")
        try:
            yield
        finally:
            self.console("umount", key, f"{key}.pub")
            self.console("systemctl", "restart", "sshd.service")

    def look_for_secrets(self, outputs: dict[str, Any]) -> int:
        """How many secrets were looked for in everything below the state's directory; finding one is an error."""
        own = self.secrets
        made = (own.api_key, own.noise_key, own.host_age_key, *outputs["preauthKeys"].values())
        keys = (own.deploy_key, own.ssh_host_key)
        # What a private key's lines have in common with no other key stands in the last full one.
        looked_for = [*made, *(key.splitlines()[-3] for key in keys)]
        state = [path.read_text() for path in (self.stack.directory / "state").rglob("*.json*")]
        assert any("nixos-push" in text for text in state), "there is no state to look into"
        found = [form for secret in looked_for for form in forms(secret) if any(form in text for text in state)]
        assert not found, f"the state holds {len(found)} secrets in clear or in base64"
        return len(looked_for)

    def edit_secret(self, name: str, value: str) -> None:
        """Change one value of the stack's SOPS file by sops, as its operator."""
        command = ["sops", "set", "--value-stdin", str(self.stack.directory / "secrets.yaml"), json.dumps([name])]
        subprocess.run(command, env=self.stack.environment, input=json.dumps(value), check=True, text=True)

    def drop_secret(self, name: str) -> None:
        """Take one value out of the stack's SOPS file, as its operator."""
        command = ["sops", "unset", str(self.stack.directory / "secrets.yaml"), json.dumps([name])]
        subprocess.run(command, env=self.stack.environment, check=True)

    def unit_changes(self) -> dict[str, str]:
        """When each active service of the configuration last changed its state: a restart moves it, and a reload."""
        wanted = "--property=Id,ActiveState,StateChangeTimestampMonotonic"
        own = self.console("sh", "-c", "cd /run/current-system/etc/systemd/system && ls -d *.service").split()
        shown = self.console("systemctl", "show", wanted, *own).split("\n\n")
        units = [dict(line.split("=", 1) for line in block.splitlines()) for block in shown]
        return {u["Id"]: u["StateChangeTimestampMonotonic"] for u in units if u["ActiveState"] == "active"}

    def delete_server(self) -> str:
        """Delete the server at Hetzner, past Pulumi; the code of the refusal, empty when it is deleted."""
        return self._order("DELETE", "")

    def switch_server(self, on: bool) -> str:
        """Switch the server on or off at Hetzner, past Pulumi, and wait for it."""
        refusal = self._order("POST", f"/actions/power{'on' if on else 'off'}")
        wanted = "running" if on else "off"
        server = self.hetzner.project.servers[self.server_id]
        eventually(lambda: server.status == wanted, f"the server to be {wanted}", timeout=30)
        return refusal

    def _order(self, method: str, path: str) -> str:
        token = self.stack.environment["HCLOUD_TOKEN"]
        url = f"http://127.0.0.1:{HETZNER_PORT}/v1/servers/{self.server_id}{path}"
        request = urllib.request.Request(url, method=method, headers={"Authorization": f"Bearer {token}"})
        try:
            urllib.request.urlopen(request).close()
        except urllib.error.HTTPError as refusal:
            return str(json.load(refusal)["error"]["code"])
        return ""

    def leftovers(self) -> list[str]:
        return [*self.hetzner.leftovers(), *self.cloudflare.leftovers()]

    def unexpected(self) -> list[str]:
        return [*self.hetzner.unexpected, *self.cloudflare.unexpected]


@contextmanager
def world(run: Run, prepared: Prepared, say: Callable[[str], None], program: Path = PROGRAM) -> Iterator[World]:
    """Start everything around a `program`; when the block ends, nothing of it runs any more.

    Another program than today's brings the small nixpkgs of its day, as its flake.lock would.
    """
    layers = prepared.layers
    if program != PROGRAM:
        layers = image.layer(prepared.programs, program / "rehearsal"), layers[1]
    with (
        internet(),
        names(run) as resolver,
        acme(run) as authority,
        Machines(run=run, image=layers, ca_bundle=authority.bundle) as machines,
    ):
        stack = _stack(run, prepared, say, program)
        secrets = keys.make(stack)
        hetzner = Hetzner(machines, stack.environment["HCLOUD_TOKEN"])
        cloudflare = Cloudflare(ZONE, stack.environment["CLOUDFLARE_API_TOKEN"], resolver.publish)
        with serve(hetzner, port=HETZNER_PORT), serve(cloudflare, port=CLOUDFLARE_PORT):
            yield World(run, prepared, machines, hetzner, cloudflare, stack, secrets, authority.bundle)


def _stack(run: Run, prepared: Prepared, say: Callable[[str], None], program: Path) -> Stack:
    home = run.directory("pulumi")
    plugins.install(home, Path(sys.executable))
    plugins.install_hcloud(home, prepared.programs)
    return Stack(run.directory("stack"), prepared.programs, home, say, program)


def _first(entries: list[dict[str, str]], words: str) -> int:
    """When the journal has these words first, in microseconds."""
    return next(int(entry["__REALTIME_TIMESTAMP"]) for entry in entries if words in entry["MESSAGE"])


def scan_host_key(address: str) -> str:
    """The ed25519 host key that `address` shows, as in a public key file."""
    scan = ["ssh-keyscan", "-T", "5", "-t", "ed25519", address]
    shown = subprocess.run(scan, check=True, capture_output=True, text=True).stdout
    return " ".join(shown.split()[1:3])
