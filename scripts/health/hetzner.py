"""Hetzner as the stack needs it: the token, the order, and things with the stack's names that the state lacks."""

import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import rules
from offer import Offer
from scripts.commands import Refused
from tokens import HETZNER

from . import locks
from .api import Unanswered
from .lines import Line, fails, not_known, ok, warning
from .setup import LISTS, Setup

LATER = "see that this machine reaches it, and try again; https://status.hetzner.com tells of outages"
# The types of the state's resources, and their names at Hetzner after the server's own.
THINGS = {
    "server": ("hcloud:index/server:Server", ""),
    "primary-ip": ("hcloud:index/primaryIp:PrimaryIp", "-ipv[46]-[a-z]{3}[0-9]?"),
    "firewall": ("hcloud:index/firewall:Firewall", ""),
    "ssh-key": ("hcloud:index/sshKey:SshKey", "-[0-9a-f]{8}"),
}


def token(setup: Setup) -> Iterator[Line]:
    setup.settings()
    try:
        setup.hetzner.result()
    except rules.Rejected as problem:
        yield fails(f"HCLOUD_TOKEN {problem}", problem.repair)
        return
    problems = list(_problems(setup))
    yield from problems
    if not problems:
        yield ok(f"accepted; it reads all that the stack reads ({', '.join(LISTS)})")
        yield not_known(
            "may it write? Hetzner answers that only to a request that writes",
            "a token that may only read ends the first `pulumi up` with `token_readonly`; create one with Read & Write",
        )


def _problems(setup: Setup) -> Iterator[Line]:
    """A line for each answer but the right one, with all lists that got it."""
    lists: dict[str, list[str]] = {}
    remedies = {}
    for kind, things in setup.lists.items():
        try:
            things.result()
        except Refused as problem:
            lists.setdefault(str(problem), []).append(kind)
            remedies[str(problem)] = LATER if isinstance(problem, Unanswered) else HETZNER
    for words, kinds in lists.items():
        yield fails(f"asked for its lists ({', '.join(kinds)}), Hetzner answers: {words}", remedies[words])


def order(setup: Setup) -> Iterator[Line]:
    """Server type and location."""
    order = setup.settings().order
    offer = Offer([_server_type(kind) for kind in setup.lists["server-type"]()], _servers(setup))
    obstacles = list(offer.obstacles(order))
    for obstacle in obstacles:
        yield fails(*obstacle)
    for cost in () if obstacles else offer.warnings(order):
        yield warning(cost, "`pulumi preview` shows what would change")
    if not obstacles:
        yield ok(f"{order.server_type} in {order.location}, {'there' if order.name in offer.servers else 'in stock'}")


def _server_type(kind: dict[str, Any]) -> SimpleNamespace:
    places = [
        SimpleNamespace(
            name=place["name"],
            available=place.get("available", False),
            unavailable_after=(place.get("deprecation") or {}).get("unavailable_after"),
        )
        for place in kind["locations"]
    ]
    return SimpleNamespace(**(kind | {"locations": places}))


def _servers(setup: Setup) -> list[SimpleNamespace]:
    return [
        SimpleNamespace(
            name=server["name"],
            status=server["status"],
            location=server["location"]["name"],
            server_type=server["server_type"]["name"],
            primary_disk_size=server["primary_disk_size"],
            **{f"{family}_address": (server["public_net"][family] or {}).get("ip") for family in ("ipv4", "ipv6")},
        )
        for server in setup.lists["server"]()
    ]


def leftovers(setup: Setup) -> Iterator[Line]:
    """Things that an interrupted `up` may have left."""
    locks.require_rest(setup)
    name, others = setup.settings().server_name, 0
    for kind, (resource_type, ending) in THINGS.items():
        in_state = setup.ids(resource_type)
        for thing in setup.lists[kind]():
            if re.fullmatch(re.escape(name) + ending, thing["name"]) and str(thing["id"]) not in in_state:
                others += 1
                yield _leftover(kind, thing, setup.stack().name)
    if not others:
        yield ok(f"none: the state knows all that is called {name}")


def _leftover(kind: str, thing: dict[str, Any], stack: str) -> Line:
    protections = [name for name, protected in (thing.get("protection") or {}).items() if protected]
    unprotect = f"hcloud {kind} disable-protection {thing['id']} {' '.join(protections)} && " if protections else ""
    return fails(
        f"a {kind} {thing['name']} (id {thing['id']}, of {thing['created'][:16]}) that the state does not know",
        f"another stack called {stack}, with its state elsewhere, may own it, and have devices: only where none does, "
        f"and no `pulumi up` is under way, `{unprotect}hcloud {kind} delete {thing['id']}` deletes it",
    )
