"""Hetzner's offer and its resources with this stack's names, looked up before anything is touched."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pulumi
import pulumi_hcloud as hcloud

import tokens
from offer import Offer

from .look_up import answer

LISTS = {
    "server": lambda opts: hcloud.get_servers_output(opts=opts).servers,
    "primary-ip": lambda opts: hcloud.get_primary_ips_output(opts=opts).primary_ips,
    "firewall": lambda opts: hcloud.get_firewalls_output(opts=opts).firewalls,
    "ssh-key": lambda opts: hcloud.get_ssh_keys_output(opts=opts).ssh_keys,
}


def look_up(opts: pulumi.InvokeOptions) -> pulumi.Output[Offer]:
    """Ask for both lists at once; raise Refusal where Hetzner does not answer."""
    types = _answer(hcloud.get_server_types_output(opts=opts).server_types)
    servers = _answer(LISTS["server"](opts))
    return types.apply(lambda types: servers.apply(lambda servers: Offer(types, servers)))


def _answer(output: pulumi.Output[Sequence[Any]]) -> pulumi.Output[Sequence[Any]]:
    return answer(output, "asking Hetzner what it has", tokens.HETZNER)


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
    # Hetzner takes both protections of a server at once, or none.
    unprotect = f"hcloud {kind} disable-protection {thing.id} delete{' rebuild' if kind == 'server' else ''}"
    return (
        f"Hetzner has a {kind} {thing.name} (id {thing.id}) that this stack does not know, or is to replace. An `up` "
        "that was cut off leaves such a thing, and the next one stops at it: where no other stack has this name, "
        f"`hcloud {kind} delete {thing.id}` removes it (after `{unprotect}` if it is protected)"
    )


def _warn(resource: pulumi.Resource, warnings: Sequence[str]) -> None:
    for warning in warnings:
        pulumi.log.warn(warning, resource)
