""".sops.yaml: which keys each stack's SOPS file is encrypted to, for `sops encrypt` and `sops updatekeys`.

A rule is added at the end of the file's text, so that comments and the other rules stay as they are.
"""

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from commands import Refused, replacing, shown

BEGIN = """\
# Who can open which SOPS file. After a change here, `sops updatekeys FILE` carries it into the file.
creation_rules:
"""


def has_rule(config: Path, file: Path) -> bool:
    """Whether sops finds a rule for the file: the first that has no path_regex or one that matches."""
    path = _seen_from(config, file)
    try:
        return any(re.search(rule.get("path_regex") or "", path) for rule in _rules(_read(config)))
    except re.error as error:
        raise Refused(f"path_regex {error.pattern!r} of {shown(config)} cannot be understood: {error}") from None


def add_rule(config: Path, file: Path, recipients: list[str], comments: Mapping[str, str]) -> None:
    """Add a rule that names these age recipients, some with a comment."""
    before = config.read_text().rstrip("\n") + "\n" if config.exists() else BEGIN
    regex = re.sub(r"[^\w/-]", r"\\\g<0>", _seen_from(config, file))
    path_regex = f"^{regex}$"
    wanted = {"path_regex": path_regex, "key_groups": [{"age": recipients}]}
    for indent in ("  ", "", "    "):
        rule = textwrap.indent(_text(path_regex, recipients, comments), indent)
        if _adds(before, before + rule, wanted):
            with replacing(config.resolve()) as new:
                new.write_text(before + rule)
            return
    raise Refused(f"{shown(config)} has no rule for {shown(file)}; add it to its creation_rules:\n{rule}")


def _text(regex: str, recipients: list[str], comments: Mapping[str, str]) -> str:
    ages = [f"        - {name}{f'  # {comments[name]}' if name in comments else ''}" for name in recipients]
    return "\n".join([f"- path_regex: '{regex}'", "  key_groups:", "    - age:", *ages, ""])


def _adds(before: str, after: str, rule: dict[str, Any]) -> bool:
    """Whether `after` is what was there and this rule at the end, and nothing else."""
    held = yaml.safe_load(before) or {}
    try:
        return bool(yaml.safe_load(after) == {**held, "creation_rules": [*_rules(held), rule]})
    except yaml.YAMLError:
        return False


def _read(config: Path) -> dict[str, Any]:
    try:
        held = (yaml.safe_load(config.read_text()) if config.exists() else None) or {}
    except yaml.YAMLError as error:
        raise Refused(f"{shown(config)} is not YAML: {error}") from None
    if not isinstance(held, dict) or not isinstance(_rules(held), list):
        raise Refused(f"{shown(config)} is no configuration of sops: creation_rules must be a list in it")
    return held


def _rules(held: dict[str, Any]) -> list[dict[str, Any]]:
    return held.get("creation_rules") or []


def _seen_from(config: Path, file: Path) -> str:
    """The path as sops compares it: relative to the configuration where the file lies below it, else absolute."""
    file, below = file.absolute(), config.absolute().parent
    return str(file.relative_to(below) if file.is_relative_to(below) else file)
