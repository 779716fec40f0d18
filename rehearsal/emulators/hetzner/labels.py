"""Labels and selectors: `k`, `!k`, `k=v`, `k==v`, `k!=v`, `k in (a,b)`, `k notin (a,b)`, joined by commas."""

import re
from collections.abc import Callable, Mapping

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
_KEY = rf"(?:[a-z0-9.-]{{1,253}}/)?{_NAME}"
_VALUE = rf"(?:{_NAME})?"
_TERM = re.compile(
    rf"(?P<absent>!)?(?P<key>{_KEY})(?:\s*(?P<equal>==|=|!=)\s*(?P<value>{_VALUE})"
    r"|\s+(?P<member>in|notin)\s*\((?P<values>[^()]*)\))?"
)

Labels = Mapping[str, str]


def valid(labels: Labels) -> bool:
    return all(re.fullmatch(_KEY, k) and re.fullmatch(_VALUE, v) for k, v in labels.items())


def selector(text: str) -> Callable[[Labels], bool]:
    """The predicate that a selector states; ValueError when it is not one."""
    terms = [_term(part.strip()) for part in re.split(r",(?![^(]*\))", text)]
    return lambda labels: all(term(labels) for term in terms)


def _term(text: str) -> Callable[[Labels], bool]:
    match = _TERM.fullmatch(text)
    if not match or (match["absent"] and (match["equal"] or match["member"])):
        raise ValueError(f"{text!r} is not a label selector")
    key = match["key"]
    if match["equal"] or match["member"]:
        values = {v.strip() for v in (match["values"] or match["value"] or "").split(",")}
        expected = match["equal"] in ("=", "==") or match["member"] == "in"
        return lambda labels: (labels.get(key) in values) == expected
    return lambda labels: (key in labels) != bool(match["absent"])
