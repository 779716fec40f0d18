"""Hetzner's offer, compared with what a stack orders; nothing here asks Hetzner.

Source: Hetzner Cloud's API (server types with their locations; servers), as pulumi-hcloud's look-ups return it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

# components/remote/become-nixos.sh refuses less than 3.5 GiB.
LEAST_MEMORY = 4


class Obstacle(NamedTuple):
    """The reason why an order cannot be carried out, and what to do instead."""

    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.problem}: {self.remedy}"


@dataclass(frozen=True, kw_only=True)
class Order:
    """A server of this name and type in this location; `protect` keeps an existing one from being deleted."""

    name: str
    server_type: str
    location: str
    protect: bool


class Offer:
    """The server types that Hetzner has, by name, and the servers of the project, by name."""

    def __init__(self, server_types: Sequence[Any], servers: Sequence[Any]) -> None:
        self.types: Mapping[str, Any] = {kind.name: kind for kind in server_types}
        self.servers: Mapping[str, Any] = {server.name: server for server in servers}
        # Hetzner's API has told it since 2026; a list in which nothing at all is available does not tell it.
        self.tells_stock = any(place.available for kind in server_types for place in kind.locations)

    def obstacles(self, order: Order) -> Iterator[Obstacle]:
        """The reasons why this order cannot be carried out."""
        kind, server = self.types.get(order.server_type), self.servers.get(order.name)
        if server and server.status == "off":
            start = f"`hcloud server poweron {order.name}` starts it, as the console does"
            yield Obstacle(f"the server {order.name} is off", start)
        elif server:
            yield from _without_address(server)
        if server and server.location != order.location and order.protect:
            yield _elsewhere(server, order)
        elif order.location not in self.locations():
            places = f"`pulumi config set headscale:location ...` takes one of {', '.join(self.locations())}"
            yield Obstacle(f"headscale:location {order.location} is not one of Hetzner's", places)
        elif kind is None:
            yield self._unfit(order, f"{order.server_type} is not one of Hetzner's")
        elif kind.memory < LEAST_MEMORY:
            least = f"{kind.name} has {kind.memory:.0f} GB of memory, and becoming NixOS takes {LEAST_MEMORY}"
            yield self._unfit(order, least)
        elif server and server.location == order.location:
            yield from self._unlike(server, kind, order)
        elif not self.has(kind, order.location):
            yield self._sold_out(order)

    def _unfit(self, order: Order, problem: str) -> Obstacle:
        fit = ", ".join(self.fit(order.location))
        return Obstacle(f"headscale:serverType {problem}", f"Hetzner has {fit} in {order.location}")

    def _unlike(self, server: Any, kind: Any, order: Order) -> Iterator[Obstacle]:
        """The reasons why an existing server cannot change its type; Hetzner would first shut it down."""
        current = self.types.get(server.server_type)
        if server.server_type == kind.name:
            return
        if current and current.architecture != kind.architecture:
            yield Obstacle(
                f"headscale:serverType {kind.name} is {kind.architecture}, and {server.name} is "
                f"{current.architecture}, and Hetzner does not change one into the other",
                f"{', '.join(self.fit(order.location, current.architecture))} are like it",
            )
        elif server.primary_disk_size > kind.disk:
            yield Obstacle(
                f"headscale:serverType {kind.name} has a disk of {kind.disk} GB, and {server.name} has one of "
                f"{server.primary_disk_size}, and Hetzner does not shrink disks",
                f"`pulumi config set headscale:serverType {server.server_type}` keeps its type",
            )
        elif not self.has(kind, order.location):
            yield self._sold_out(order)

    def warnings(self, order: Order) -> Iterator[str]:
        """Warnings of what the order costs an existing server."""
        server = self.servers.get(order.name)
        if server is None:
            return
        if server.location != order.location:
            yield (
                f"location: {order.name} in {server.location} is deleted with its addresses, database and devices' "
                f"registrations, and another one is made in {order.location}: every device has to join again"
            )
        elif server.server_type != order.server_type:
            growth = (
                f"; its disk grows to {self.types[order.server_type].disk} GB, and types with a smaller one do not "
            )
            yield (
                f"serverType: {order.name} is shut down, changed from {server.server_type} to {order.server_type} and "
                f"started again, and devices are without headscale for some minutes{growth}fit it afterwards"
            )

    def has(self, kind: Any, location: str) -> bool:
        """True where the type can be ordered there now."""
        today = f"{datetime.now(UTC):%Y-%m-%d}"
        return any(
            place.name == location
            and (place.available or not self.tells_stock)
            and not (place.unavailable_after and place.unavailable_after[:10] <= today)
            for place in kind.locations
        )

    def fit(self, location: str, architecture: str = "") -> list[str]:
        """The types that can be ordered there and are large enough."""
        return [
            name
            for name, kind in self.types.items()
            if kind.memory >= LEAST_MEMORY and self.has(kind, location) and architecture in ("", kind.architecture)
        ] or ["none at the moment"]

    def address(self, name: str) -> str:
        """The public IPv4 address of the server of this name; empty where there is none."""
        return self.servers[name].ipv4_address if name in self.servers else ""

    def locations(self) -> list[str]:
        return sorted({place.name for kind in self.types.values() for place in kind.locations})

    def _sold_out(self, order: Order) -> Obstacle:
        kind = self.types[order.server_type]
        elsewhere = [name for name in self.locations() if self.has(kind, name)]
        return Obstacle(
            f"{order.server_type} is sold out in {order.location} at Hetzner",
            f"`pulumi config set headscale:serverType ...` takes another type ({', '.join(self.fit(order.location))}), "
            f"`pulumi config set headscale:location ...` another place ({', '.join(elsewhere) or 'none has it'})",
        )


def _elsewhere(server: Any, order: Order) -> Obstacle:
    return Obstacle(
        f"headscale:location is {order.location}, and the server {order.name} is in {server.location}. Hetzner "
        "does not move servers: another would take its place, with other addresses and an empty database, and every "
        "device would have to join again",
        f"`pulumi config set headscale:location {server.location}` keeps it. To move all the same: `pulumi config set "
        f"headscale:protect false && pulumi config set headscale:location {server.location} && pulumi up`, then "
        f"`pulumi config set headscale:location {order.location} && pulumi up`",
    )


def _without_address(server: Any) -> Iterator[Obstacle]:
    """The reason why a server cannot be reached, for each address family of which Hetzner gives it none."""
    name = server.name
    for family, address in {"ipv4": server.ipv4_address, "ipv6": server.ipv6_address}.items():
        if not address:
            yield Obstacle(
                f"the server {name} has no {family} address at Hetzner, whose primary IP somebody has unassigned",
                f"`hcloud server poweroff {name}`, `hcloud primary-ip assign {name}-{family}-{server.location} "
                f"--server {name}` and `hcloud server poweron {name}` give it back",
            )
