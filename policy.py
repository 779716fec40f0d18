"""headscale's access policy, looked at before there is a server to ask: HuJSON, and the frequent mistakes of policies.

The policy is headscale's to judge, and nothing that it takes is refused here. Sources: headscale 0.29
(hscontrol/policy/v2), HuJSON (github.com/tailscale/hujson: JSON with comments and last commas).
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import rules
from rules import Rejected

# By section, in lower case: headscale does not look at the case of names.
FIELDS = {
    "acls": {"action", "proto", "src", "dst"},
    "grants": {"src", "dst", "ip", "app", "via"},
    "ssh": {"action", "src", "dst", "users", "checkperiod", "acceptenv"},
    "nodeattrs": {"target", "attr", "ippool"},
    "tests": {"src", "proto", "accept", "deny"},
    "sshtests": {"src", "dst", "accept", "deny", "check"},
}
MAPS = {"groups", "hosts", "tagowners", "autoapprovers"}
SECTIONS = {*FIELDS, *MAPS, "randomizeclientport"}
TESTS = {"tests", "sshtests"}
AUTOGROUPS = {"internet", "member", "nonroot", "tagged", "self", "danger-all"}
PORTS = re.compile(r"\*|[\d, -]+", re.ASCII)
STRING_OR_COMMENT = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*\n|/\*.*?\*/', re.DOTALL)
# Of a comma behind another value alone, JSON with last commas makes JSON.
STRING_OR_COMMA = re.compile(r'("(?:\\.|[^"\\])*")|([\[{,:]\s*,)|,(?=\s*[}\]])')

Policy = dict[str, Any]


def checked(path: Path) -> Path:
    """A file that headscale can read as a policy, as far as that shows without headscale; Rejected otherwise."""
    policy = parsed(_text(path))
    for problem in _mistakes(policy):
        raise Rejected(problem)
    return path


def tag_owners(path: Path) -> Mapping[str, Any]:
    """The tags that a policy defines, of a file that passed `checked`."""
    return parsed(_text(path)).get("tagowners") or {}


def without_tests(text: str) -> str:
    """A policy that passed `checked`, with blanks in the place of its `tests` and `sshTests`.

    headscale runs these against users and nodes, and reloads no policy whose tests name one that is not there.
    """
    if not text:
        return text
    without_comments = _without_comments(text)
    for name, begin, end in _members(_without_last_commas(without_comments)):
        if name.lower() in TESTS:
            comma = re.compile(r"\s*,").match(without_comments, end)
            end = comma.end() if comma else end
            text = text[:begin] + _blank(text[begin:end]) + text[end:]
    return text


def parsed(text: str) -> Policy:
    """The policy by section, their names in lower case; an empty file is a policy that allows everything."""
    if not text:
        return {}
    try:
        policy = json.loads(
            _without_last_commas(_without_comments(text)), object_pairs_hook=_object, parse_constant=_not_json
        )
    except json.JSONDecodeError as error:
        raise Rejected(f"is not HuJSON: {error}") from None
    except RecursionError:
        raise Rejected("is nested too deeply") from None
    if not isinstance(policy, dict):
        raise Rejected("is not an object")
    return _lower(policy, "the policy")


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise Rejected(f"is not HuJSON: it is not UTF-8 from byte {error.start} on") from None


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise Rejected(f"has {twice!r} twice in one object")
    return dict(pairs)


def _not_json(constant: str) -> None:
    raise Rejected(f"is not HuJSON: {constant} is not a number")


def _lower(fields: Mapping[str, Any], where: str) -> Policy:
    lower = {name.lower(): value for name, value in fields.items()}
    if len(lower) < len(fields):
        raise Rejected(f"has a field of {where} twice, in upper and lower case")
    return lower


def _mistakes(policy: Policy) -> Iterator[str]:
    if unknown := sorted(set(policy) - SECTIONS):
        yield f"has fields that headscale does not know: {', '.join(unknown)}"
    for section in MAPS & set(policy):
        if not isinstance(policy[section], dict | None):
            yield f"has {section} that is not an object"
    for section in FIELDS.keys() & set(policy):
        if not isinstance(policy[section], list | None):
            yield f"has {section} that is not a list"
        for rule in policy[section] or []:
            yield from _mistakes_of_rule(section, rule)
    yield from _mistakes_of_names(policy)


def _mistakes_of_rule(section: str, rule: Any) -> Iterator[str]:
    if not isinstance(rule, dict):
        yield f"has an entry of {section} that is not an object: {json.dumps(rule)}"
        return
    # headscale-admin keeps notes of its own in rules.
    fields = {name: value for name, value in rule.items() if not (section == "acls" and name.startswith("#"))}
    fields, quoted = _lower(fields, f"an entry of {section}"), json.dumps(rule)
    if unknown := sorted(set(fields) - FIELDS[section]):
        yield f"has fields in {section} that headscale does not know, {', '.join(unknown)}: {quoted}"
    if section == "acls" and fields.get("action", "accept") != "accept":
        yield f'has a rule whose action is not "accept": {quoted}'
    if section == "ssh":
        yield from _mistakes_of_ssh(fields, quoted)
    if section == "grants" and not fields.get("ip") and not fields.get("app"):
        yield f"has a grant that grants nothing, neither ip nor app: {quoted}"
    if section == "nodeattrs" and ("funnel" in (fields.get("attr") or []) or fields.get("ippool")):
        yield f"has nodeAttrs that headscale does not have, funnel or ipPool: {quoted}"
    for side in ("src", "dst"):
        if section not in TESTS and not _is_list_of_names(fields.get(side)):
            yield f"has a rule whose {side} is not a list of names: {quoted}"


def _mistakes_of_ssh(fields: Policy, quoted: str) -> Iterator[str]:
    if str(fields.get("action")).strip() not in ("accept", "check"):
        yield f'has an ssh rule whose action is neither "accept" nor "check": {quoted}'
    users = fields.get("users")
    if not users or not isinstance(users, list) or {"", "*"} & {name for name in users if isinstance(name, str)}:
        yield f'has an ssh rule without users by name, such as "root" or "autogroup:nonroot": {quoted}'


def _is_list_of_names(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(name, str) for name in value))


def _mistakes_of_names(policy: Policy) -> Iterator[str]:
    for section in ("acls", "grants", "ssh"):
        for rule in policy.get(section) or []:
            fields = _lower(rule, section)
            for name in fields.get("src") or []:
                yield from _mistakes_of_name(policy, name.strip())
                if name.strip() == "autogroup:self":
                    yield f"has autogroup:self as a source in {section}; it can be a destination alone"
            for name in fields.get("dst") or []:
                yield from _mistakes_of_target(policy, section, name.strip())
    for group, members in (policy.get("groups") or {}).items():
        for name in members or []:
            if isinstance(name, str) and name.startswith("group:"):
                yield f"has {name} in {group}; groups do not hold groups"
    for owners in (policy.get("tagowners") or {}).values():
        for name in owners or []:
            if isinstance(name, str) and name.startswith("autogroup:"):
                yield f"gives a tag to {name}, which headscale does not take as an owner; users (ann@) and groups are"


def _mistakes_of_target(policy: Policy, section: str, name: str) -> Iterator[str]:
    if section != "acls":
        if section == "ssh" and name == "*":
            yield 'has "*" as a destination of ssh, which headscale does not take; tags and autogroup:self can be'
        yield from _mistakes_of_name(policy, name)
        return
    alias, colon, ports = name.rpartition(":")
    if not colon or not PORTS.fullmatch(ports):
        yield f"has a destination without a port: {name}; {name}:* is all of them"
    else:
        yield from _mistakes_of_name(policy, alias)


def _mistakes_of_name(policy: Policy, name: str) -> Iterator[str]:
    kind, colon, rest = name.partition(":")
    if kind == "autogroup" and colon and rest not in AUTOGROUPS:
        yield f"names {name}; headscale has autogroup:{', autogroup:'.join(sorted(AUTOGROUPS))}"
    elif kind == "group" and colon and name not in (policy.get("groups") or {}):
        yield f"names {name}, which is not among its groups"
    elif kind == "tag" and colon and name not in (policy.get("tagowners") or {}):
        yield f"names {name}, which is not among its tagOwners"
    elif not colon and name != "*" and "@" not in name and not _is_host(policy, name):
        yield f"names {name}, which is not among its hosts; a user is written {name}@"


def _is_host(policy: Policy, name: str) -> bool:
    if name in (policy.get("hosts") or {}):
        return True
    try:
        rules.network(name.strip("[]"))
    except Rejected as problem:
        # A network whose host bits are set is one to headscale.
        return "host bits" in str(problem)
    return True


def _without_comments(text: str) -> str:
    return STRING_OR_COMMENT.sub(lambda match: match[1] or _blank(match[0]), text)


def _without_last_commas(text: str) -> str:
    return STRING_OR_COMMA.sub(lambda match: match[1] or match[2] or " ", text)


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)


def _members(plain: str) -> Iterator[tuple[str, int, int]]:
    """Each member of a JSON object with the places where its name begins and its value ends."""
    decoder, space = json.JSONDecoder(), re.compile(r"\s*")
    at = space.match(plain, plain.index("{") + 1).end()  # type: ignore[union-attr]
    while plain[at] != "}":
        begin = at
        name, at = decoder.raw_decode(plain, begin)
        _, at = decoder.raw_decode(plain, space.match(plain, plain.index(":", at) + 1).end())  # type: ignore[union-attr]
        yield name, begin, at
        at = re.compile(r"\s*,?\s*").match(plain, at).end()  # type: ignore[union-attr]
