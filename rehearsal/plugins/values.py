"""Property values of the engine's protocol as ordinary Python values, and back."""

from collections.abc import Mapping, Sequence
from typing import Any

from pulumi.provider.experimental.property_value import PropertyValue
from pulumi.runtime.rpc import UNKNOWN as _UNKNOWN

Properties = dict[str, PropertyValue]

UNKNOWN = PropertyValue(_UNKNOWN)


def plain(value: PropertyValue | None) -> Any:
    """The value without marks of secrecy, null for a missing one."""
    inner = None if value is None else value.value
    if isinstance(inner, Mapping):
        return {key: plain(item) for key, item in inner.items()}
    if isinstance(inner, Sequence) and not isinstance(inner, str):
        return [plain(item) for item in inner]
    return inner


def wrap(value: Any) -> PropertyValue:
    """The property value for anything that JSON can hold; the protocol has no integers."""
    if isinstance(value, dict):
        return PropertyValue({key: wrap(item) for key, item in value.items()})
    if isinstance(value, list):
        return PropertyValue([wrap(item) for item in value])
    return PropertyValue(float(value) if isinstance(value, int) and not isinstance(value, bool) else value)


def own_type(urn: str) -> str:
    """The type token in a resource's name, without those of its parents."""
    return urn.split("::")[2].rpartition("$")[2]


def is_unknown(value: PropertyValue | None) -> bool:
    return bool(plain(value) == _UNKNOWN)


def differ(old: PropertyValue | None, new: PropertyValue | None) -> bool:
    """True where two properties differ; becoming secret, or public, is a difference too."""
    return (plain(old), _secret(old)) != (plain(new), _secret(new))


def _secret(value: PropertyValue | None) -> bool:
    return value is not None and value.contains_secret()
