"""Turns Tailscale's DERP map (JSON on stdin) into headscale's YAML, if it is one.

With the map in use as argument, the new one must have at least half as many regions.
headscale does not start with a map that it cannot read, so nothing gets through that has not the form it reads.
"""

import json
import re
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import Any

REGION = {
    "RegionID": {int},
    "RegionCode": {str},
    "RegionName": {str},
    "Latitude": {int, float},
    "Longitude": {int, float},
    "Avoid": {bool},
    "NoMeasureNoHome": {bool},
    "Nodes": {list},
}
NODE = {
    "Name": {str},
    "RegionID": {int},
    "HostName": {str},
    "CertName": {str},
    "IPv4": {str},
    "IPv6": {str},
    "STUNPort": {int},
    "STUNOnly": {bool},
    "DERPPort": {int},
    "CanPort80": {bool},
}
# Tailscale leaves these to private relays, and headscale's own has one of them.
PRIVATE = range(900, 1000)


def insist(condition: object, problem: str) -> None:
    if not condition:
        raise SystemExit(f"derp-map: {problem}")


def known(given: Any, fields: dict[str, set[type]], what: str) -> dict[str, Any]:
    """The fields that headscale reads, their names in lower case as it reads them; others are left out."""
    insist(type(given) is dict, f"{what} is {given!r}")
    kept = {name: given[name] for name in fields if name in given}
    for name, value in kept.items():
        # Not isinstance, to which a bool is an int.
        insist(type(value) in fields[name], f"{what}: {name} is {value!r}")
    return {name.lower(): value for name, value in kept.items()}


def region(number: str, given: Any) -> dict[str, Any]:
    what = f"region {number}"
    insist(re.fullmatch("[1-9][0-9]*", number) and int(number) not in PRIVATE, f"{what} has no number of Tailscale's")
    made = known(given, REGION, what)
    insist(made.get("regionid") == int(number), f"{what} says that it is {made.get('regionid')}")
    insist(made.get("nodes"), f"{what} has no nodes")
    made["nodes"] = [node(each, f"{what}, node {index}") for index, each in enumerate(made["nodes"])]
    return made


def node(given: Any, what: str) -> dict[str, Any]:
    made = known(given, NODE, what)
    insist(made.get("hostname"), f"{what} has no host name")
    addresses = [made[family] for family in ("ipv4", "ipv6") if made.get(family)]
    insist(addresses, f"{what} has no address")
    for address in addresses:
        try:
            ip_address(address)
        except ValueError as problem:
            raise SystemExit(f"derp-map: {what}: {problem}") from None
    return made


def main(in_use: str | None = None) -> None:
    try:
        regions = json.load(sys.stdin)["Regions"]
        made = {int(number): region(number, given) for number, given in regions.items()}
    except (ValueError, TypeError, LookupError, AttributeError) as problem:
        raise SystemExit(f"derp-map: this is no DERP map: {problem}") from None
    # YAML knows JSON's values as they are; only a number as a key must stand without quotes.
    lines = [f"  {number}: {json.dumps(made[number])}" for number in sorted(made)]
    before = len(Path(in_use).read_text().splitlines()) - 1 if in_use else 1
    insist(len(lines) >= before / 2, f"{len(lines)} regions, and the map in use has {before}")
    print("regions:", *lines, sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
