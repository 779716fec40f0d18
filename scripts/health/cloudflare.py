"""Cloudflare as the stack needs it: the token, the zones, and records at the names that the state lacks."""

from collections.abc import Iterator
from typing import Any

import rules
from scripts.commands import Refused
from tokens import CLOUDFLARE

from . import locks
from .api import Unanswered
from .lines import Line, fails, not_known, ok
from .setup import Setup

LATER = "see that this machine reaches it, and try again; https://www.cloudflarestatus.com tells of outages"
RECORD = "cloudflare:index/dnsRecord:DnsRecord"
# Types of records that resolve to a server.
LEADING = ("A", "AAAA", "CNAME")
READ, EDIT = "#dns_records:read", "#dns_records:edit"


def token(setup: Setup) -> Iterator[Line]:
    settings = setup.settings()
    try:
        setup.cloudflare.result()
        setup.zones.result()
        setup.records.result()
        yield ok("accepted; it reads zones and their records")
    except rules.Rejected as problem:
        yield fails(f"CLOUDFLARE_API_TOKEN {problem}", problem.repair)
    except Unanswered as problem:
        yield fails(f"Cloudflare does not answer: {problem}", LATER)
    except Refused as problem:
        zone = settings.text("zone") or settings.text("domain")
        yield fails(f"Cloudflare answers: {problem}", CLOUDFLARE.format(zone=zone))


def zones(setup: Setup) -> Iterator[Line]:
    zones = setup.zones()
    for name in sorted({zone for _, zone in setup.settings().names}):
        if name in zones:
            yield _active(name, zones[name])
            yield _editable(name, zones[name].get("permissions") or [])
        else:
            yield fails(f"Cloudflare does not show this token a zone {name}", CLOUDFLARE.format(zone=name))


def _active(name: str, zone: dict[str, Any]) -> Line:
    if zone["status"] == "active":
        return ok(f"{name} is there and active")
    servers = " and ".join(zone.get("name_servers") or [])
    return fails(f"{name} is {zone['status']}: nobody asks Cloudflare for it", f"name {servers} at its registrar")


def _editable(name: str, permissions: list[str]) -> Line:
    if EDIT in permissions:
        return ok(f"{name}: the token may edit its records")
    if READ in permissions:
        return fails(f"{name}: the token may read its records and not edit them", CLOUDFLARE.format(zone=name))
    return not_known(f"{name}: may the token edit its records? Cloudflare does not say")


def records(setup: Setup) -> Iterator[Line]:
    """Records at the names that lead elsewhere, or that an interrupted `up` left."""
    locks.require_rest(setup)
    in_state = setup.ids(RECORD)
    others = [
        _foreign(setup, name, record)
        for name, records in setup.records().items()
        for record in records
        if record["type"] in LEADING and record["id"] not in in_state
    ]
    yield from others
    if not others:
        yield ok(f"none but the stack's at {', '.join(setup.records()) or 'the names'}")


def _foreign(setup: Setup, name: str, record: dict[str, Any]) -> Line:
    settings, stack = setup.settings(), setup.stack().name
    zone = setup.zones()[dict(settings.names)[name]]
    in_config = f"$(pulumi config get --stack {stack} cloudflare:apiToken)"
    bearer = in_config if settings.get("cloudflare:apiToken") else "$CLOUDFLARE_API_TOKEN"
    url = f"{setup.cloudflare().url}/zones/{zone['id']}/dns_records/{record['id']}"
    return fails(
        f"{name} has {record['type']} {record['content']} (id {record['id']}), which the state does not know: devices "
        "that resolve it do not find headscale, and `up` cannot create the same record",
        f"another stack called {stack}, with its state elsewhere, or another service may need it: only where none "
        f'does, and no `pulumi up` is under way, `curl -X DELETE -H "Authorization: Bearer {bearer}" {url}` deletes it',
    )
