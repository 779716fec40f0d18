"""Hetzner's offer, as far as this project may choose it: locations, server types, system images.

State of mid 2026: cx22 and its generation are gone; cx and cax are European. Prices are made up.
Not modelled: ISOs, apps, snapshots, deprecations.
"""

from collections.abc import Iterable, Mapping
from copy import deepcopy

from rehearsal.emulators.api import Json

_EUROPE = ("fsn1", "nbg1", "hel1")


def _location(id: int, name: str, city: str, country: str, zone: str, latitude: float, longitude: float) -> Json:
    return {
        "id": id,
        "name": name,
        "description": f"{city} DC Park 1",
        "country": country,
        "city": city,
        "latitude": latitude,
        "longitude": longitude,
        "network_zone": zone,
    }


LOCATIONS: Mapping[int, Json] = {
    location["id"]: location
    for location in (
        _location(1, "fsn1", "Falkenstein", "DE", "eu-central", 50.47612, 12.370071),
        _location(2, "nbg1", "Nuremberg", "DE", "eu-central", 49.452102, 11.076665),
        _location(3, "hel1", "Helsinki", "FI", "eu-central", 60.169855, 24.938379),
        _location(4, "ash", "Ashburn, VA", "US", "us-east", 39.045821, -77.487073),
        _location(5, "hil", "Hillsboro, OR", "US", "us-west", 45.54222, -122.951924),
        _location(6, "sin", "Singapore", "SG", "ap-southeast", 1.283333, 103.833333),
    )
}


def _offer(location: Json) -> Json:
    offer = {"deprecation": None, "available": True, "recommended": True}
    return {"id": location["id"], "name": location["name"], **offer}


def _price(location: str, memory: int) -> Json:
    net = memory * (1 if location in _EUROPE else 2)
    amounts = {"net": f"{net:.10f}", "gross": f"{net * 1.19:.10f}"}
    return {"location": location, "price_hourly": amounts, "price_monthly": amounts}


PRICING: Json = {"currency": "EUR", "vat_rate": "19.00"}


def _server_type(
    id: int, name: str, cores: int, memory: int, disk: int, architecture: str, where: Iterable[str]
) -> Json:
    return {
        "id": id,
        "name": name,
        "description": name.upper(),
        "category": "cost_optimized" if name.startswith(("cx", "cax")) else "regular_purpose",
        "cores": cores,
        "memory": float(memory),
        "disk": disk,
        "prices": [_price(location, memory) for location in where],
        "storage_type": "local",
        "cpu_type": "shared",
        "architecture": architecture,
        "included_traffic": 0,
        "deprecated": False,
        "deprecation": None,
        "locations": [_offer(location) for location in LOCATIONS.values() if location["name"] in where],
    }


SERVER_TYPES: Mapping[int, Json] = {
    server_type["id"]: server_type
    for server_type in (
        _server_type(22, "cpx11", 2, 2, 40, "x86", ("ash", "hil", "sin")),
        _server_type(45, "cax11", 2, 4, 40, "arm", _EUROPE),
        _server_type(93, "cax21", 4, 8, 80, "arm", _EUROPE),
        _server_type(110, "cpx22", 2, 4, 80, "x86", (*_EUROPE, "ash", "hil", "sin")),
        _server_type(114, "cx23", 2, 4, 40, "x86", _EUROPE),
        _server_type(115, "cx33", 4, 8, 80, "x86", _EUROPE),
        _server_type(116, "cx43", 8, 16, 160, "x86", _EUROPE),
    )
}


def in_stock(server_type: Json, sold_out: Mapping[tuple[str, str], bool]) -> Json:
    """A server type as it is listed while some places have none; where the stock is not told, as if there were some."""
    listed = deepcopy(server_type)
    for offer in listed["locations"]:
        offer["available"] = not sold_out.get((listed["name"], offer["name"]), False)
    return listed


def _image(id: int, flavor: str, version: str, architecture: str) -> Json:
    return {
        "id": id,
        "type": "system",
        "status": "available",
        "name": f"{flavor}-{version}",
        "description": f"{flavor.title()} {version}",
        "image_size": None,
        "disk_size": 5,
        "created": "2025-08-11T00:00:00Z",
        "created_from": None,
        "bound_to": None,
        "os_flavor": flavor,
        "os_version": version,
        "architecture": architecture,
        "rapid_deploy": True,
        "protection": {"delete": False},
        "deprecated": None,
        "deprecation": None,
        "deleted": None,
        "labels": {},
    }


IMAGES: Mapping[int, Json] = {
    image["id"]: image
    for image in (
        _image(114690387, "debian", "12", "x86"),
        _image(114690389, "debian", "12", "arm"),
        _image(161547269, "ubuntu", "24.04", "x86"),
        _image(161547270, "ubuntu", "24.04", "arm"),
        _image(310557660, "debian", "13", "x86"),
        _image(310557661, "debian", "13", "arm"),
    )
}
