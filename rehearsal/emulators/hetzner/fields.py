"""The fields that several of Hetzner's request bodies share. A reference is an id or a name."""

from collections.abc import Mapping
from typing import Any, TypeVar

from rehearsal.emulators.api import ApiError, Json
from rehearsal.emulators.hetzner import labels as label_rules
from rehearsal.emulators.hetzner.resources import Resource, invalid

R = TypeVar("R", bound=Resource)
Body = Mapping[str, Any]


def name(body: Body, others: Mapping[int, R], *, itself: R | None = None) -> str:
    value = body.get("name")
    if not isinstance(value, str) or not value:
        raise invalid("name", "a name is required")
    if any(other.name == value and other is not itself for other in others.values()):
        raise ApiError(409, f"name {value!r} is already used", "uniqueness_error")
    return value


def labels(body: Body) -> dict[str, str]:
    value = body.get("labels") or {}
    strings = isinstance(value, dict) and all(isinstance(v, str) for v in value.values())
    if not strings or not label_rules.valid(value):
        raise invalid("labels", f"{value!r} are not valid labels")
    return dict(value)


def flag(body: Body, key: str, *, default: bool) -> bool:
    value = body.get(key)
    if value is not None and not isinstance(value, bool):
        raise invalid(key, f"{value!r} is not true or false")
    return default if value is None else value


def existing(items: Mapping[int, R], reference: object, field: str) -> R:
    """The resource that a body refers to."""
    for item in items.values():
        if str(item.id) == str(reference) or item.name == reference:
            return item
    raise invalid(field, f"{reference!r} not found")


def offered(items: Mapping[int, Json], reference: object, field: str, **traits: str) -> Json:
    """The location, server type or image that a body refers to."""
    for item in items.values():
        named = str(item["id"]) == str(reference) or item["name"] == reference
        if named and all(item[key] == value for key, value in traits.items()):
            return item
    raise invalid(field, f"{reference!r} is not offered")
