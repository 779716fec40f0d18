"""Convert Tailscale's DERP map (JSON on stdin) to headscale's YAML.

With the map in use as argument, the new one must have at least half as many regions. headscale does not start with a
map that it cannot read: anything of another form is refused.
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


def fields_of(value: Any, fields: dict[str, set[type]], what: str) -> dict[str, Any]:
    """The fields that headscale reads, their names in lower case as it reads them; others are left out."""
    insist(type(value) is dict, f"{what} is {value!r}")
    entry = {name: value[name] for name in fields if name in value}
    for name, field in entry.items():
        # Not isinstance, to which a bool is an int.
        insist(type(field) in fields[name], f"{what}: {name} is {field!r}")
    return {name.lower(): field for name, field in entry.items()}


def region(number: str, value: Any) -> dict[str, Any]:
    what = f"region {number}"
    insist(re.fullmatch("[1-9][0-9]*", number) and int(number) not in PRIVATE, f"{what} is not a number of Tailscale's")
    entry = fields_of(value, REGION, what)
    insist(entry.get("regionid") == int(number), f"{what} says that it is {entry.get('regionid')}")
    insist(entry.get("nodes"), f"{what} has no nodes")
    entry["nodes"] = [node(each, f"{what}, node {index}") for index, each in enumerate(entry["nodes"])]
    return entry


def node(value: Any, what: str) -> dict[str, Any]:
    entry = fields_of(value, NODE, what)
    insist(entry.get("hostname"), f"{what} has no host name")
    addresses = [entry[family] for family in ("ipv4", "ipv6") if entry.get(family)]
    insist(addresses, f"{what} has no address")
    for address in addresses:
        try:
            ip_address(address)
        except ValueError as problem:
            raise SystemExit(f"derp-map: {what}: {problem}") from None
    return entry


def main(in_use: str | None = None) -> None:
    try:
        regions = json.load(sys.stdin)["Regions"]
        converted = {int(number): region(number, value) for number, value in regions.items()}
    except (ValueError, TypeError, LookupError, AttributeError) as problem:
        raise SystemExit(f"derp-map: this is not a DERP map: {problem}") from None
    # YAML knows JSON's values as they are; only a number as a key must stand without quotes.
    lines = [f"  {number}: {json.dumps(converted[number])}" for number in sorted(converted)]
    before = len(Path(in_use).read_text().splitlines()) - 1 if in_use else 1
    insist(len(lines) >= before / 2, f"{len(lines)} regions, and the map in use has {before}")
    print("regions:", *lines, sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
