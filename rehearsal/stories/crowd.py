"""Thirty devices behind one address join at once: under the limits that are shipped, and under those once asked for.

The request for this project asked for 10 requests a second, 20 at once, and 10 connections from an address, for every
path. Both are measured in one run, so that the machine's speed does not matter.
"""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from subprocess import SubprocessError

from rehearsal.devices import Device
from rehearsal.story import Story

CROWD = 30
# How long to wait for who does not come: as often what the last one took that did.
PATIENCE = 5
CONFIGURATION, LOG = "/etc/nginx/nginx.conf", "/var/log/nginx/access.log"
REJECTED = re.compile(r'" (429|503) ')
ASKED_FOR = (
    "s/limit_req zone=devices burst=200 nodelay/limit_req zone=people burst=20 nodelay/",
    "s/limit_conn device_connections 256/limit_conn people_connections 10/",
)


class Crowd(Story):
    """How many devices behind one address join, and how long the last of them takes."""

    def tell(self) -> None:
        self.up()
        with self.report.step(
            f"{CROWD} devices behind one address join at once under the limits that are shipped"
        ) as line:
            times = self.arrive("shipped", 120)
            line.note = self.describe(times)
            assert len(times) == CROWD, line.note
        with self.report.step("under the limits once asked for, not all of them join in five times that") as line:
            self.limit_as_asked_for()
            patience = PATIENCE * max(times)
            fewer = self.arrive("asked", patience)
            line.note = f"{self.describe(fewer)}; waited {patience:.0f} s"
            assert len(fewer) < CROWD, line.note

    def arrive(self, name: str, patience: float) -> list[float]:
        """Seconds that each took of those that joined in time."""
        with self.world.household([f"{name}-{number}" for number in range(1, CROWD + 1)]) as devices:
            begun = time.monotonic()

            def join(device: Device) -> float | None:
                with suppress(SubprocessError, TimeoutError):
                    device.join(self.outputs["joinCommand"], patience)
                    return time.monotonic() - begun
                return None

            with ThreadPoolExecutor(CROWD) as pool:
                return [taken for taken in pool.map(join, devices) if taken is not None]

    def describe(self, times: list[float]) -> str:
        rejected = sum(REJECTED.search(line) is not None for line in self.world.console("cat", LOG).splitlines())
        self.world.console("truncate", "--size=0", LOG)
        last = max(times, default=0.0)
        return f"{len(times)} of {CROWD} joined, the last after {last:.1f} s; {rejected} requests rejected"

    def limit_as_asked_for(self) -> None:
        # It would take the crowd for people at their limits, and ban them all.
        self.world.console("systemctl", "stop", "fail2ban.service")
        before = self.world.console("cat", CONFIGURATION)
        self.world.console("sed", "-i", *(f"-e{expression}" for expression in ASKED_FOR), CONFIGURATION)
        after = self.world.console("cat", CONFIGURATION)
        assert "zone=devices burst" not in after and after != before
        self.world.console("systemctl", "reload", "nginx.service")
