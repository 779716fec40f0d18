"""Write a page that tells how to join a device, on each platform.

The page is a file that only you can read; it loads nothing. Give it to the person whose device joins. Without --key it
holds no secret, and the device's first login ends with a page that you are sent.
"""

import argparse
import html
import json
import os
import sys
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import urlsplit

try:
    import segno

    from .commands import PROGRAM, Refused, as_typed, atomic_write, require, run
except ImportError as lacking:
    raise SystemExit(
        f"scripts/join: {sys.executable} lacks the module {lacking.name}; `pulumi install` installs it"
    ) from None

PAGE = Path(__file__).with_name("join.html")
WITH_KEY = "This page holds a key: anyone who has it can join devices as {user} until {end}."
WITHOUT_KEY = "This page holds no key: after the login, the device shows a page. Send it to the operator of {host}."


def main() -> None:
    parser = argparse.ArgumentParser("scripts/join", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("user", help="the user of headscale whose device it becomes, one of headscale:users")
    parser.add_argument("--stack", help="the stack (default: the selected one)")
    parser.add_argument("--key", action="store_true", help="put the user's pre-auth key into the page")
    parser.add_argument("--qr", action="store_true", help="show the server address as a QR code here, too")
    parser.add_argument("--output", type=Path, help="the page's file (default: join-USER.html)")
    arguments = parser.parse_args()
    file = (arguments.output or Path(f"join-{arguments.user}.html")).absolute()
    os.chdir(PROGRAM)
    try:
        require("pulumi")
        outputs = stack_outputs(arguments.stack, arguments.key)
        write(file, page(outputs, arguments.user, arguments.key))
    except (Refused, OSError) as problem:
        raise SystemExit(f"scripts/join: {problem}") from None
    if arguments.qr:
        segno.make(outputs["headscaleUrl"]).terminal(compact=True)
    print(f"{as_typed(file)} tells how to join a device{'; it holds a key: delete it afterwards' * arguments.key}")


def stack_outputs(stack: str | None, with_secrets: bool) -> dict[str, Any]:
    """The outputs of the stack; Refused before its first `up`."""
    flags = [*(["--stack", stack] if stack else []), *(["--show-secrets"] if with_secrets else [])]
    outputs: dict[str, Any] = json.loads(run("pulumi", "--non-interactive", "stack", "output", "--json", *flags))
    if "headscaleUrl" not in outputs:
        raise Refused("the stack has no outputs yet; `pulumi up` makes them")
    return outputs


def page(outputs: dict[str, Any], user: str, with_key: bool) -> str:
    """The page; Refused where the stack has no such user."""
    if user not in outputs["users"]:
        raise Refused(f"{user} is not one of headscale:users, which are {', '.join(outputs['users'])}")
    url, command = outputs["headscaleUrl"], f"tailscale up --login-server {outputs['headscaleUrl']}"
    key, host = outputs["preauthKeys"][user] if with_key else "", urlsplit(url).hostname or ""
    about = WITHOUT_KEY.format(host=host)
    if with_key:
        about = WITH_KEY.format(user=user, end=outputs["preauthKeysExpireAt"][user])
        command = f"{command} --auth-key {key}"
    texts = {"user": user, "host": host, "url": url, "command": command, "key": key, "about_key": about}
    code = segno.make(url).png_data_uri(scale=8)
    return Template(PAGE.read_text()).substitute({name: html.escape(text) for name, text in texts.items()}, qr=code)


def write(file: Path, text: str) -> None:
    with atomic_write(file) as new:
        new.touch(mode=0o600)
        new.write_text(text)


if __name__ == "__main__":
    main()
