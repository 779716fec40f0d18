"""Compare the clouds and the server with the configuration, in words that are safe to publish: for cron and for CI.

It runs `pulumi preview`, which changes nothing, and prints nothing where there is nothing to tell. Otherwise it names
the resources that differ, facts of the server and warnings, as Markdown; no secret, address, user or network is in it.
What has to be read at home is counted.

Exit status: 0 as configured, also where there are warnings; 7 not as configured; 1 not known.
"""

import argparse
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from . import publishable
from .commands import PROGRAM, Refused, require

DIFFERENT, NOT_KNOWN = 7, 1
HEADINGS = {
    0: "The stack is as configured, with warnings.",
    DIFFERENT: "The stack is not as configured.",
    NOT_KNOWN: "The stack could not be compared with its configuration.",
}
UNCHANGED = ("same", "refresh", "read", "read-discard", "read-replacement")
DEADLINE = 1800.0


def main() -> None:
    parser = argparse.ArgumentParser(
        "scripts/nightly", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--stack", help="the stack (default: the selected one)")
    parser.add_argument("--config-file", type=Path, help="its configuration (default: Pulumi.STACK.yaml)")
    parser.add_argument("--target", action="append", default=[], help="compare this resource alone")
    arguments = parser.parse_args()
    config_file = arguments.config_file and arguments.config_file.absolute()
    os.chdir(PROGRAM)
    try:
        require("pulumi")
        flags = [("--stack", arguments.stack), ("--config-file", config_file)]
        flags += [("--target", resource) for resource in arguments.target]
        status, text = compare([str(word) for flag in flags if flag[1] for word in flag])
    except Refused as problem:
        raise SystemExit(f"scripts/nightly: {problem}") from None
    except KeyboardInterrupt:
        raise SystemExit("scripts/nightly: interrupted; nothing was changed") from None
    print(text, end="")
    raise SystemExit(status)


def compare(flags: Sequence[str]) -> tuple[int, str]:
    """The exit status and the text of a preview with these flags."""
    command = ["pulumi", "preview", "--non-interactive", "--json", "--expect-no-changes", *flags]
    try:
        process = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE)
    except subprocess.TimeoutExpired:
        raise Refused(f"`pulumi preview` has not ended after {DEADLINE:.0f} s; run it by hand to see why") from None
    status = process.returncode if process.returncode in (0, DIFFERENT) else NOT_KNOWN
    try:
        preview = json.loads(process.stdout)
    except ValueError:
        preview = {"diagnostics": [{"severity": "error", "message": process.stderr}]}
    return status, "".join(f"{line}\n" for line in _lines(status, preview))


def _lines(status: int, preview: dict[str, Any]) -> Iterator[str]:
    steps = [step for step in preview.get("steps", []) if step["op"] not in UNCHANGED]
    problems = [each for each in preview.get("diagnostics", []) if each["severity"] in ("warning", "error")]
    facts = [*publishable.sentences(each["message"] for each in problems)]
    failures = {f"failed: `{_name(each)}`" for each in problems if each["severity"] == "error" and each.get("urn")}
    differences = sorted({_difference(step) for step in steps})
    if status or facts:
        yield HEADINGS[status]
        yield ""
        yield from (f"- {line}" for line in (*differences, *sorted(failures), *facts))
        yield ""
        yield "`pulumi preview` at home shows all of it, and `pulumi up` repairs what is not as configured."


def _difference(step: dict[str, Any]) -> str:
    properties = ", ".join(publishable.properties(step))
    return f"{step['op']} `{_name(step)}`{f': {properties}' if properties else ''}"


def _name(event: dict[str, Any]) -> str:
    return publishable.resource(event["urn"].rpartition("::")[2])


if __name__ == "__main__":
    main()
