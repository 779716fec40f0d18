""".sops.yaml: the keys that each stack's SOPS file is encrypted to, for `sops encrypt` and `sops updatekeys`.

A rule is added at the end of the file's text, so that comments and the other rules stay as they are.
"""

import json
import os
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from .commands import Refused, as_typed, atomic_write, run

BEGIN = """\
# Who can open which SOPS file. After a change here, `sops updatekeys FILE` carries it into the file.
creation_rules:
"""


def has_rule(config: Path, file: Path) -> bool:
    """True where sops has a rule for the file; sops itself is asked, since its regular expressions are Go's."""
    return encrypted(config, file, {"trial": "trial"}) is not None


def encrypted(config: Path, file: Path, values: Mapping[str, str]) -> str | None:
    """Encrypt the values by the rule for `file`, and return the text of a SOPS file; None where no rule fits."""
    if not _rules(_read(config)):
        return None
    # Where SOPS_AGE_RECIPIENTS or its like is set, sops does not look at its rules.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SOPS_")}
    types = ("--input-type", "json", "--output-type", "yaml", "--filename-override", str(file.absolute()))
    command = ("sops", "--config", str(config), "encrypt", *types, "/dev/stdin")
    try:
        return run(*command, stdin=json.dumps(values), environment=environment)
    except Refused as problem:
        if "no matching creation rules found" in str(problem):
            return None
        raise


def add_rule(config: Path, file: Path, recipients: list[str], comments: Mapping[str, str]) -> None:
    """Add a rule that names these age recipients, some with a comment."""
    before = config.read_text().rstrip("\n") + "\n" if config.exists() else BEGIN
    regex = re.sub(r"[^\w/-]", r"\\\g<0>", _seen_from(config, file))
    path_regex = f"^{regex}$"
    entry = {"path_regex": path_regex, "key_groups": [{"age": recipients}]}
    for indent in ("  ", "", "    "):
        rule = textwrap.indent(_text(path_regex, recipients, comments), indent)
        if _adds(before, before + rule, entry):
            with atomic_write(config.resolve()) as new:
                new.write_text(before + rule)
            return
    raise Refused(f"{as_typed(config)} lacks a rule for {as_typed(file)}; add it to its creation_rules:\n{rule}")


def _text(regex: str, recipients: list[str], comments: Mapping[str, str]) -> str:
    ages = [f"        - {name}{f'  # {comments[name]}' if name in comments else ''}" for name in recipients]
    return "\n".join([f"- path_regex: '{regex}'", "  key_groups:", "    - age:", *ages, ""])


def _adds(before: str, after: str, rule: dict[str, Any]) -> bool:
    """True where `after` is `before` and this rule at the end, and nothing else."""
    content = yaml.safe_load(before) or {}
    try:
        return bool(yaml.safe_load(after) == {**content, "creation_rules": [*_rules(content), rule]})
    except yaml.YAMLError:
        return False


def _read(config: Path) -> dict[str, Any]:
    try:
        content = (yaml.safe_load(config.read_text()) if config.exists() else None) or {}
    except yaml.YAMLError as error:
        raise Refused(f"{as_typed(config)} is not YAML: {error}") from None
    if not isinstance(content, dict) or not isinstance(_rules(content), list):
        raise Refused(f"{as_typed(config)} is not a configuration of sops: its creation_rules must be a list")
    return content


def _rules(content: dict[str, Any]) -> list[dict[str, Any]]:
    return content.get("creation_rules") or []


def _seen_from(config: Path, file: Path) -> str:
    """The path as sops compares it: relative to the configuration where the file is below it, else absolute."""
    file, below = file.absolute(), config.absolute().parent
    return str(file.relative_to(below) if file.is_relative_to(below) else file)
