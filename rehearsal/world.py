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

from rehearsal import plugins
from rehearsal.emulators.api import serve
from rehearsal.emulators.cloudflare import Cloudflare
from rehearsal.emulators.hetzner import Hetzner
from rehearsal.internet.acme import acme
from rehearsal.internet.dns import names
from rehearsal.internet.network import internet
from rehearsal.operator import keys
from rehearsal.operator.keys import StackSecrets
from rehearsal.operator.leaks import forms
from rehearsal.operator.stack import PROGRAM, Stack
from rehearsal.people import devices
from rehearsal.sandbox.capsule import Run
from rehearsal.sandbox.wait import eventually
from rehearsal.server.host import Headscale, Host
from rehearsal.server.machines import Machines
from rehearsal.setup import image, programs

ZONE = {"example.org": "5b9e2f0c1d3a4e6f8a7b6c5d4e3f2a1b"}
HETZNER_PORT, CLOUDFLARE_PORT = 8001, 8002
WRITTEN_BY_DEPLOYS = ("/etc/nixos", "/nix/var/nix/profiles", "/var/lib/deployment", "/var/lib/sops-nix", "/boot")


@dataclass(frozen=True)
class Prepared:
    """The products of set-up: `layers` is the server's disk image, the highest layer first."""

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

    @property
    def host(self) -> Host:
        return Host(self.machines, lambda: self.server_id)

    @property
    def headscale(self) -> Headscale:
        return Headscale(self.host)

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

    def office(self, names: Sequence[str]) -> AbstractContextManager[list[devices.Device]]:
        return devices.workplaces(
            names,
            number=next(self.homes),
            run=self.run,
            programs=self.prepared.programs,
            ca_bundle=self.ca_bundle,
        )

    def host_snapshot(self) -> set[str]:
        """Every file that a deploy writes, with the time of its last change, and headscale's users and keys."""
        files = self.host.run("find", *WRITTEN_BY_DEPLOYS, "-printf", "%p %T@ %C@\n").splitlines()
        users = self.host.run("headscale", "users", "list", "--output", "json")
        keys = self.host.run("headscale", "preauthkeys", "list", "--output", "json")
        return {*files, users, json.dumps([(key["id"], key.get("expiration")) for key in json.loads(keys)])}

    def dialled_late(self) -> float:
        """Seconds between NixOS's sshd listening for the first time and the first login of `pulumi up`."""
        lines = self.host.run("journalctl", "--boot", "--unit", "sshd", "--output", "json").splitlines()
        entries = [json.loads(line) for line in lines]
        return (_first(entries, "Accepted publickey") - _first(entries, "Server listening")) / 1e6

    @contextmanager
    def boot_loader_read_only(self) -> Iterator[None]:
        """Activating a system still works, making it the boot default does not."""
        self.host.run("mount", "--bind", "--options", "ro", "/boot", "/boot")
        try:
            yield
        finally:
            self.host.run("umount", "/boot")

    @contextmanager
    def other_host_key(self) -> Iterator[None]:
        """While it lasts, the server shows a host key that is not the stack's."""
        key = "/etc/ssh/ssh_host_ed25519_key"
        self.host.run("mkdir", "-p", "/run/other")
        self.host.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/run/other/key")
        self.host.run("mount", "--bind", "/run/other/key", key)
        self.host.run("mount", "--bind", "/run/other/key.pub", f"{key}.pub")
        self.host.restart("sshd.service")
        try:
            yield
        finally:
            self.host.run("umount", key, f"{key}.pub")
            self.host.restart("sshd.service")

    def look_for_secrets(self, outputs: dict[str, Any]) -> int:
        """The number of secrets looked for in everything below the state's directory; finding one is an error."""
        own = self.secrets
        secrets_of_stack = (own.api_key, own.noise_key, own.host_age_key, *outputs["preauthKeys"].values())
        keys = (own.deploy_key, own.ssh_host_key)
        # What a private key's lines have in common with no other key stands in the last full one.
        looked_for = [*secrets_of_stack, *(key.splitlines()[-3] for key in keys)]
        state = [path.read_text() for path in (self.stack.directory / "state").rglob("*.json*")]
        assert any("nixos-push" in text for text in state), "the state is empty"
        matches = [form for secret in looked_for for form in forms(secret) if any(form in text for text in state)]
        assert not matches, f"the state holds {len(matches)} secrets in clear or in base64"
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
        """The time of each active service's last change of state: a restart moves it, and a reload."""
        expected = "--property=Id,ActiveState,StateChangeTimestampMonotonic"
        own = self.host.run("sh", "-c", "cd /run/current-system/etc/systemd/system && ls -d *.service").split()
        output = self.host.run("systemctl", "show", expected, *own).split("\n\n")
        units = [dict(line.split("=", 1) for line in block.splitlines()) for block in output]
        return {u["Id"]: u["StateChangeTimestampMonotonic"] for u in units if u["ActiveState"] == "active"}

    def delete_server(self) -> str:
        """Delete the server at Hetzner, past Pulumi; the code of the refusal, empty when it is deleted."""
        return self._refusal("DELETE", f"servers/{self.server_id}")

    def switch_server(self, on: bool) -> str:
        """Switch the server on or off at Hetzner, past Pulumi, and wait for it."""
        refusal = self._refusal("POST", f"servers/{self.server_id}/actions/power{'on' if on else 'off'}")
        expected = "running" if on else "off"
        server = self.hetzner.project.servers[self.server_id]
        eventually(lambda: server.status == expected, f"the server to be {expected}", timeout=30)
        return refusal

    def ask_hetzner(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The answer of Hetzner's API to the stack's token, past Pulumi; empty where there is nothing to say."""
        token = self.stack.environment["HCLOUD_TOKEN"]
        request = urllib.request.Request(
            f"http://127.0.0.1:{HETZNER_PORT}/v1/{path}",
            method=method,
            data=json.dumps(body).encode() if body else None,
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request) as answer:
                return json.loads(answer.read() or "{}")  # type: ignore[no-any-return]
        except urllib.error.HTTPError as refusal:
            return json.load(refusal)  # type: ignore[no-any-return]

    def _refusal(self, method: str, path: str) -> str:
        """The code with which Hetzner refuses; empty when it does not."""
        return str(self.ask_hetzner(method, path).get("error", {}).get("code", ""))

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
    """The time of the first journal entry with these words, in microseconds."""
    return next(int(entry["__REALTIME_TIMESTAMP"]) for entry in entries if words in entry["MESSAGE"])


def scan_host_key(address: str) -> str:
    """The ed25519 host key that `address` shows, as in a public key file."""
    scan = ["ssh-keyscan", "-T", "5", "-t", "ed25519", address]
    output = subprocess.run(scan, check=True, capture_output=True, text=True).stdout
    return " ".join(output.split()[1:3])
