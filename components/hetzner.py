"""Hetzner's offer and its resources with this stack's names, looked up before anything is touched.

Source: Hetzner Cloud's API (server types with their locations; servers), as pulumi-hcloud's look-ups return it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pulumi
import pulumi_hcloud as hcloud

from .look_up import answer

# remote/become-nixos.sh refuses less than 3.5 GiB.
LEAST_MEMORY = 4
TOKEN = (
    "HCLOUD_TOKEN, or `pulumi config set --secret hcloud:token`, is a token that may read and write; create one in "
    "Hetzner's console in the server's project, under Security, API tokens"
)
LISTS = {
    "server": lambda opts: hcloud.get_servers_output(opts=opts).servers,
    "primary-ip": lambda opts: hcloud.get_primary_ips_output(opts=opts).primary_ips,
    "firewall": lambda opts: hcloud.get_firewalls_output(opts=opts).firewalls,
    "ssh-key": lambda opts: hcloud.get_ssh_keys_output(opts=opts).ssh_keys,
}


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

    def refusals(self, order: Order) -> Iterator[str]:
        """The reasons why this order cannot be carried out, each with what to do instead."""
        kind, server = self.types.get(order.server_type), self.servers.get(order.name)
        if server and server.status == "off":
            yield f"the server {order.name} is off: `hcloud server poweron {order.name}` starts it, as the console does"
        elif server:
            yield from _without_address(server)
        if server and server.location != order.location and order.protect:
            yield _elsewhere(server, order)
        elif not any(place.name == order.location for each in self.types.values() for place in each.locations):
            yield f"headscale:location {order.location} is not one of Hetzner's: {', '.join(self.locations())}"
        elif kind is None:
            yield (
                f"headscale:serverType {order.server_type} is not one of Hetzner's. "
                f"In {order.location} it has {', '.join(self.fit(order.location))}"
            )
        elif kind.memory < LEAST_MEMORY:
            yield (
                f"headscale:serverType {kind.name} has {kind.memory:.0f} GB of memory, and becoming NixOS takes "
                f"{LEAST_MEMORY}. In {order.location} there are {', '.join(self.fit(order.location))}"
            )
        elif server and server.location == order.location:
            yield from self._unlike(server, kind, order)
        elif not self.has(kind, order.location):
            yield self._sold_out(order)

    def _unlike(self, server: Any, kind: Any, order: Order) -> Iterator[str]:
        """The reasons why an existing server cannot change its type; Hetzner would first shut it down."""
        current = self.types.get(server.server_type)
        if server.server_type == kind.name:
            return
        if current and current.architecture != kind.architecture:
            yield (
                f"headscale:serverType {kind.name} is {kind.architecture}, and {server.name} is "
                f"{current.architecture}: Hetzner does not change one into the other. "
                f"{', '.join(self.fit(order.location, current.architecture))} are like it"
            )
        elif server.primary_disk_size > kind.disk:
            yield (
                f"headscale:serverType {kind.name} has a disk of {kind.disk} GB, and {server.name} has one of "
                f"{server.primary_disk_size}: Hetzner does not shrink disks"
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

    def _sold_out(self, order: Order) -> str:
        kind = self.types[order.server_type]
        elsewhere = [name for name in self.locations() if self.has(kind, name)]
        return (
            f"{order.server_type} is sold out in {order.location} at Hetzner. "
            f"`pulumi config set headscale:serverType ...` takes another type ({', '.join(self.fit(order.location))}), "
            f"`pulumi config set headscale:location ...` another place ({', '.join(elsewhere) or 'none has it'})"
        )


def _elsewhere(server: Any, order: Order) -> str:
    back = f"`pulumi config set headscale:location {server.location}`"
    return (
        f"headscale:location is {order.location}, and the server {order.name} is in {server.location}. Hetzner "
        "does not move servers: another would take its place, with other addresses and an empty database, and every "
        "device would have to join again. To do that: `pulumi config set headscale:protect false && pulumi config "
        f"set headscale:location {server.location} && pulumi up`, then `pulumi config set headscale:location "
        f"{order.location} && pulumi up`. Otherwise {back}"
    )


def _without_address(server: Any) -> Iterator[str]:
    """The reason why a server cannot be reached, for each address family of which Hetzner gives it none."""
    name = server.name
    for family, address in {"ipv4": server.ipv4_address, "ipv6": server.ipv6_address}.items():
        if not address:
            yield (
                f"the server {name} has no {family} address at Hetzner, whose primary IP somebody has unassigned: "
                f"`hcloud server poweroff {name}`, `hcloud primary-ip assign {name}-{family}-{server.location} "
                f"--server {name}` and `hcloud server poweron {name}` give it back"
            )


def look_up(opts: pulumi.InvokeOptions) -> pulumi.Output[Offer]:
    """Ask for both lists at once; raise Refusal where Hetzner does not answer."""
    types = _answer(hcloud.get_server_types_output(opts=opts).server_types)
    servers = _answer(LISTS["server"](opts))
    return types.apply(lambda types: servers.apply(lambda servers: Offer(types, servers)))


def _answer(output: pulumi.Output[Sequence[Any]]) -> pulumi.Output[Sequence[Any]]:
    return answer(output, "asking Hetzner what it has", TOKEN)


def warn_of_leftovers(resources: Mapping[str, Sequence[Any]], opts: pulumi.InvokeOptions) -> None:
    """Warn in a preview of things that have the names of resources, by kind, and that the state does not know."""
    if pulumi.runtime.is_dry_run():
        for kind, of_kind in resources.items():
            things = _answer(LISTS[kind](opts))
            for resource in of_kind:
                warnings: pulumi.Output[list[str]] = pulumi.Output.from_input(_leftover(kind, resource, things))
                warnings.apply(partial(_warn, resource))


async def _leftover(kind: str, resource: Any, things: pulumi.Output[Sequence[Any]]) -> list[str]:
    name, in_state = await resource.name.future(), await resource.id.is_known()
    at_hetzner = await things.future() or []
    return [_how_to_delete(kind, thing) for thing in at_hetzner if thing.name == name and not in_state]


def _how_to_delete(kind: str, thing: Any) -> str:
    unprotect = f"hcloud {kind} disable-protection {thing.id} delete"
    return (
        f"Hetzner has a {kind} {thing.name} (id {thing.id}) that this stack does not know, or is to replace. An `up` "
        "that was cut off leaves such a thing, and the next one stops at it: where no other stack has this name, "
        f"`hcloud {kind} delete {thing.id}` removes it (after `{unprotect}` if it is protected)"
    )


def _warn(resource: pulumi.Resource, warnings: Sequence[str]) -> None:
    for warning in warnings:
        pulumi.log.warn(warning, resource)
