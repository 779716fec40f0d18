"""Thirty devices behind one address, or in one IPv6 network, join at once, under the limits that are shipped.

The request for this project asked for 10 requests a second, 20 at once, and 10 connections from an address, for every
path. Both are measured in one run, so that the machine's speed does not matter.
"""

import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from ipaddress import ip_network
from subprocess import SubprocessError

from rehearsal.people.devices import Device
from rehearsal.sandbox.wait import eventually
from rehearsal.story import Story

CROWD = 30
# How long to wait for who does not come: as often what the last one took that did.
PATIENCE = 5
CONFIGURATION, LOG = "/etc/nginx/nginx.conf", "/var/log/nginx/access.log"
REJECTED = re.compile(r'" (429|503) ')
DEVICE = re.compile(r'^(2001:db8:2:[^/ ]*)/64 - \[.*?\] "[A-Z]+ /ts2021" 101 ', re.MULTILINE)
SHIPPED = "for-devices.conf;"
ASKED_FOR = f"s/include [^;]*{SHIPPED}/limit_req zone=people burst=20 nodelay; limit_conn people_connections 10;/"


class Crowd(Story):
    """The devices that join at once, and the time that the last of them takes."""

    def tell(self) -> None:
        self.up()
        with self.report.step(
            f"{CROWD} devices behind one address join at once under the limits that are shipped"
        ) as line:
            times = self.arrive("shipped", 120, self.world.household)
            line.note = self.describe(times)
            assert len(times) == CROWD, line.note
        with self.report.step(
            "as many do at IPv6 addresses of their own in one network, which the limits count as one"
        ) as line:
            office = self.arrive("office", 120, self.world.office)
            # NGINX logs a device's connection when it has ended.
            clients = eventually(self.all_clients, "every device in NGINX's log", 15)
            line.note = f"{self.describe(office)}; {len(clients)} addresses"
            assert len(office) == CROWD, line.note
            assert len({ip_network(f"{client}/64", strict=False) for client in clients}) == 1
        with self.report.step("nobody is banned") as line:
            line.note = self.world.host.run("fail2ban-client", "banned")
            assert not re.search(r"\d", line.note), line.note
        with self.report.step("under the limits once asked for, not all of them join in five times that") as line:
            self.limit_as_asked_for()
            patience = PATIENCE * max(times)
            fewer = self.arrive("asked", patience, self.world.household)
            line.note = f"{self.describe(fewer)}; waited {patience:.0f} s"
            assert len(fewer) < CROWD, line.note

    def arrive(
        self, name: str, patience: float, place: Callable[[Sequence[str]], AbstractContextManager[list[Device]]]
    ) -> list[float]:
        """Seconds that each took of those that joined in time."""
        with place([f"{name}-{number}" for number in range(1, CROWD + 1)]) as devices:
            start = time.monotonic()

            def join(device: Device) -> float | None:
                with suppress(SubprocessError, TimeoutError):
                    device.join(self.outputs["joinCommand"], patience)
                    return time.monotonic() - start
                return None

            with ThreadPoolExecutor(CROWD) as pool:
                return [taken for taken in pool.map(join, devices) if taken is not None]

    def all_clients(self) -> set[str]:
        """The IPv6 addresses of the devices that have been connected to headscale, once all of them are logged."""
        clients = set(DEVICE.findall(self.world.host.read(LOG)))
        assert len(clients) == CROWD, f"{len(clients)} of {CROWD} addresses"
        return clients

    def describe(self, times: list[float]) -> str:
        rejected = sum(REJECTED.search(line) is not None for line in self.world.host.read(LOG).splitlines())
        self.world.host.run("truncate", "--size=0", LOG)
        last = max(times, default=0.0)
        return f"{len(times)} of {CROWD} joined, the last after {last:.1f} s; {rejected} requests rejected"

    def limit_as_asked_for(self) -> None:
        # It would take the crowd for people at their limits, and ban them all.
        self.world.host.stop("fail2ban.service")
        before = self.world.host.read(CONFIGURATION)
        self.world.host.run("sed", "-i", ASKED_FOR, CONFIGURATION)
        assert SHIPPED in before and SHIPPED not in self.world.host.read(CONFIGURATION)
        # A renewed certificate may have asked for another reload, which is under way.
        reload = ("systemctl", "reload", "nginx.service")
        eventually(lambda: self.world.host.run(*reload) == "", "NGINX to reload", timeout=30)
