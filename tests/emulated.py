"""The emulated Hetzner cloud for tests: its official client, machines that only take notes, plain HTTP."""

import http.client
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from typing import Any
from urllib.parse import urlsplit

import pytest
from hcloud import APIException, Client
from hcloud.actions import BoundAction
from hcloud.images import Image
from hcloud.locations import Location
from hcloud.server_types import ServerType
from hcloud.servers import Server

from rehearsal.emulators.api import serve
from rehearsal.emulators.hetzner import FirewallRule, Hetzner, ServerSpec

TOKEN = "t" * 64
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJwmSTUVFf7pXHpdV5v0hSRKNOFGAYTdE3NJlJbJJ6Yr operator"
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8 other"


@dataclass
class Workshop:
    """Machines that write down what they were asked, and begin to boot only when `power` is on."""

    orders: list[tuple] = field(default_factory=list)
    specs: list[ServerSpec] = field(default_factory=list)
    power: threading.Event = field(default_factory=threading.Event)
    broken: bool = False

    def __post_init__(self) -> None:
        self.power.set()

    def create(self, spec: ServerSpec) -> None:
        self.power.wait(timeout=10)
        self.specs.append(spec)
        self._order("create", spec.id)

    def delete(self, server_id: int) -> None:
        self._order("delete", server_id)

    def power_on(self, server_id: int) -> None:
        self._order("on", server_id)

    def power_off(self, server_id: int) -> None:
        self._order("off", server_id)

    def reboot(self, server_id: int) -> None:
        self._order("reboot", server_id)

    def set_firewall(self, server_id: int, rules: Sequence[FirewallRule] | None) -> None:
        self._order("firewall", server_id, rules)

    def _order(self, *order: object) -> None:
        if self.broken:
            raise RuntimeError("the rack is on fire")
        self.orders.append(order)


@dataclass(frozen=True)
class Cloud:
    emulator: Hetzner
    machines: Workshop
    client: Client
    url: str

    def server(self, name: str = "vpn", **more: object) -> Server:
        """A server that runs."""
        ordered = self.order(name, **more)
        finish(ordered.action, *ordered.next_actions)
        ordered.server.reload()
        return ordered.server

    def order(self, name: str = "vpn", **more):
        usual = {
            "server_type": ServerType(name="cx23"),
            "image": Image(name="debian-13"),
            "location": Location(name="nbg1"),
        }
        return self.client.servers.create(name=name, **(usual | more))

    def primary_ip(self, type: str = "ipv4", name: str = "", **more):
        location = Location(name="nbg1")
        return self.client.primary_ips.create(type=type, name=name or type, location=location, **more).primary_ip


@contextmanager
def hetzner() -> Iterator[Cloud]:
    """The Hetzner emulator, its machines and the official client; nothing unexpected may have been asked."""
    machines = Workshop()
    emulator = Hetzner(machines, TOKEN)
    with serve(emulator) as url:
        client = Client(token=TOKEN, api_endpoint=url, poll_interval=0.02)
        yield Cloud(emulator, machines, client, url)
        client._client._session.close()
    assert emulator.unexpected == []


def finish(*actions: BoundAction | None) -> None:
    for action in actions:
        assert action
        action.wait_until_finished()


@contextmanager
def refused(code: str) -> Iterator[None]:
    with pytest.raises(APIException) as caught:
        yield
    assert caught.value.code == code


def call(url: str, method: str = "GET", body: object = None, token: str = TOKEN) -> tuple[int, Message, Any]:
    """Status, headers and JSON of one request without a client."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    content = None if body is None else body if isinstance(body, str) else json.dumps(body)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    connection.request(method, target, content, {"Authorization": f"Bearer {token}"})
    response = connection.getresponse()
    text = response.read()
    connection.close()
    return response.status, response.headers, json.loads(text) if text else None
