"""The base of all stories: a stack, its first `pulumi up`, devices that join, looks at it from outside."""

import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rehearsal.operator.keys import StackSecrets, public_key
from rehearsal.operator.stack import PROGRAM, Outcome
from rehearsal.people.devices import Device
from rehearsal.report import Report
from rehearsal.sandbox.capsule import Run
from rehearsal.sandbox.processes import check
from rehearsal.world import World

HEADSCALE, UI = "headscale.example.org", "headscale-ui.example.org"
DEPLOY = {"nixos-push", "nixos-deploy", "nixos-confirm"}
JOIN_TIMEOUT = 60.0


class Story:
    """One life of a stack in `world`; call `tell` once. Each step proves one thing and says what it saw."""

    laptop: Device
    phone: Device

    def __init__(self, world: World, report: Report) -> None:
        self.world = world
        self.report = report
        self.outputs: dict[str, Any] = {}
        self.begun = 0.0

    @staticmethod
    def program(run: Run) -> Path:
        """The directory of the program that makes the stack."""
        return PROGRAM

    def tell(self) -> None:
        raise NotImplementedError

    def up(self) -> None:
        """Begin a story that is not about the first `pulumi up`."""
        with self.report.step("`pulumi up` creates every resource") as line:
            self.begun = time.monotonic()
            outcome = self.world.stack.up()
            self.outputs = self.world.stack.outputs()
            line.note = f"{len(outcome.operations)} resources"

    @contextmanager
    def joined(self, *names: str) -> Iterator[list[Device]]:
        """Devices of these names, on the tailnet until the block ends."""
        with ExitStack() as end:
            matches = [end.enter_context(self.world.device(name)) for name in names]
            with self.report.step(f"{', '.join(names)} join"), ThreadPoolExecutor() as pool:
                list(pool.map(lambda device: device.join(self.outputs["joinCommand"]), matches))
            yield matches

    def log_in(self, secrets: StackSecrets | None = None) -> None:
        """A new SSH connection with the deploy key of these secrets, to the host that has their host key."""
        directory, secrets = self.world.run.directory("login"), secrets or self.world.secrets
        address = self.outputs["serverIpv4"]
        (directory / "known").write_text(f"{address} {public_key(secrets.ssh_host_key)}\n")
        (directory / "key").touch(mode=0o600)
        (directory / "key").write_text(secrets.deploy_key)
        options = (
            "StrictHostKeyChecking=yes",
            f"UserKnownHostsFile={directory}/known",
            "BatchMode=yes",
            "ConnectTimeout=5",
        )
        flags = [word for option in options for word in ("-o", option)]
        check(["ssh", "-F", "none", "-i", f"{directory}/key", *flags, f"root@{address}", "true"])

    @contextmanager
    def up_in_the_background(
        self, expect: int = 0, command: Callable[[int], Outcome] | None = None
    ) -> Iterator[Callable[[], str]]:
        """`pulumi up`, or another command, while the block goes on; what it gives waits for the end and the output."""
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(command or self.world.stack.up, expect)
            yield lambda: running.result(timeout=240).output

    @contextmanager
    def pinging(self) -> Iterator[Callable[[], str]]:
        """The phone pings the laptop; what it gives counts them, once the block is over, and none may be lost."""
        with self.phone.pinging(self.laptop.addresses()[0]) as pings:
            yield lambda: f"{pings.sent} pings between the devices, none lost"
        assert pings.lost == 0, f"{pings.lost} of {pings.sent} pings between the devices were lost"

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.world.ca_bundle))

    def get(self, url: str, key: str | None = None) -> tuple[int, str]:
        """The status and the body that the operator gets, with an API key or without."""
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"} if key else {})
        try:
            with urllib.request.urlopen(request, timeout=10, context=self.trust()) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
