"""What all stories share: a stack, its first `pulumi up`, devices that join, looks at it from outside."""

import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from rehearsal.devices import Device
from rehearsal.report import Report
from rehearsal.world import World

HEADSCALE, UI = "headscale.example.org", "headscale-ui.example.org"
DEPLOY = {"nixos-push", "nixos-deploy", "nixos-confirm"}
JOIN_TIMEOUT = 60.0


class Story:
    """One life of a stack in `world`; call `tell` once. Each step proves one thing and says what it saw."""

    def __init__(self, world: World, report: Report) -> None:
        self.world = world
        self.report = report
        self.outputs: dict[str, Any] = {}
        self.begun = 0.0

    def tell(self) -> None:
        raise NotImplementedError

    def up(self) -> None:
        """Where a story begins that is not about the first `pulumi up`."""
        with self.report.step("`pulumi up` creates every resource") as line:
            self.begun = time.monotonic()
            outcome = self.world.stack.up()
            self.outputs = self.world.stack.outputs()
            line.note = f"{len(outcome.operations)} resources"

    @contextmanager
    def joined(self, *names: str) -> Iterator[list[Device]]:
        """Devices of these names, on the tailnet until the block ends."""
        with ExitStack() as end:
            found = [end.enter_context(self.world.device(name)) for name in names]
            with self.report.step(f"{', '.join(names)} join"):
                for device in found:
                    device.join(self.outputs["joinCommand"])
            yield found

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
