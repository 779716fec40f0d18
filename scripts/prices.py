"""Hetzner's server types with their prices, as its API tells them."""

from collections.abc import Iterator, Mapping
from typing import Any

from offer import LEAST_MEMORY

from .health.api import CloudApi


def server_types(location: str, hetzner: CloudApi) -> list[str]:
    """A line for each type that can be ordered there and is large enough, the cheapest first."""
    currency = hetzner.answer("pricing")["pricing"]["currency"]
    types = hetzner.list("server_types", "server_types")
    prices = {price: kind for kind in types for price in _price(kind, location)}
    return [
        f"{kind['name']:6} {kind['architecture']}, {kind['cores']} cores, {kind['memory']:.0f} GB of memory, "
        f"{kind['disk']} GB of disk: {price:.2f} {currency} a month with VAT"
        for (price, _), kind in sorted(prices.items())
    ]


def _price(kind: Mapping[str, Any], location: str) -> Iterator[tuple[float, str]]:
    """The price of a month, with the type's name; nothing where it cannot be ordered or is too small."""
    in_stock = any(place["name"] == location and place["available"] for place in kind["locations"])
    if kind["memory"] >= LEAST_MEMORY and in_stock:
        for price in kind["prices"]:
            if price["location"] == location:
                yield float(price["price_monthly"]["gross"]), kind["name"]
