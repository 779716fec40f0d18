"""Look at the stack's server from outside, as devices and browsers see it, and say how each thing is.

DNS, open ports, SSH, redirects, certificates, TLS, headers, what is served, the API's door, STUN, the
upgrade of the devices' protocol, limits. What should be there comes from the stack's outputs and configuration and from
nix/. The server itself is asked, at the addresses of the outputs: a wrong record is one wrong line. Nothing is written
anywhere; the deploy key logs in and runs nothing.

With --devices two throw-away devices join, ping each other and leave, by a user and a key of their own. They need
tailscale and tailscaled on this machine, and touch nothing of its network. User and key are removed in the end, also
when this is ended by a signal; after `kill -9` by the next run.

Exits with 1 if something is wrong. A line that cannot be judged from here says why, and is not wrong.
"""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

try:
    from .commands import PROGRAM, Refused, StackSettings, exclusive_lock, require
    from .verification import devices, network, target, tls, web
    from .verification.api import HeadscaleApi
    from .verification.report import WRONG, Check, Observation, lines
    from .verification.target import Target
except ImportError as lacking:
    raise SystemExit(
        f"scripts/verify: {sys.executable} lacks the module {lacking.name}; `pulumi install` installs it"
    ) from None

AT_ONCE = 8


def main() -> None:
    parser = argparse.ArgumentParser(
        "scripts/verify", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--devices", action="store_true", help="let two throw-away devices join, ping and leave")
    parser.add_argument("--json", action="store_true", help="print the lines as JSON, once all are there")
    parser.add_argument("--resolver", metavar="ADDRESS", help="the DNS server to ask (default: this machine's)")
    parser.add_argument("--ca", type=Path, metavar="FILE", help="certificates to trust beside the usual ones")
    parser.add_argument("--stack", help="the stack (default: the selected one)")
    parser.add_argument("--config-file", type=Path, help="its configuration (default: Pulumi.STACK.yaml)")
    arguments = parser.parse_args()
    for option in ("ca", "config_file"):
        if path := getattr(arguments, option):
            setattr(arguments, option, path.absolute())
    os.chdir(PROGRAM)
    try:
        with ended_by_signals():
            raise SystemExit(verify(arguments))
    except (Refused, OSError) as problem:
        raise SystemExit(f"scripts/verify: {problem}") from None


def verify(arguments: argparse.Namespace) -> int:
    require("pulumi", *(["tailscale", "tailscaled"] if arguments.devices else []))
    tls.scanner()
    stack = StackSettings(arguments.stack, arguments.config_file)
    server = target.of(stack, arguments.ca, arguments.resolver)
    start, ended = time.monotonic(), []
    for line in looks(stack, server, arguments.devices):
        ended.append(line)
        if not arguments.json:
            print(line, flush=True)
    wrong = sum(line.verdict == WRONG for line in ended)
    if arguments.json:
        print(json.dumps({"wrong": wrong, "lines": [asdict(line) for line in ended]}, indent=2))
    else:
        print(f"{time.monotonic() - start:6.1f} s  {len(ended)} looked at, {wrong} wrong")
    return int(wrong > 0)


def looks(stack: StackSettings, server: Target, with_devices: bool) -> Iterator[Observation]:
    yield from lines(checks(server), AT_ONCE)
    # Alone and last: it uses up what one address may ask.
    yield from lines([Check("limits", partial(web.limits, server))])
    if with_devices:
        api = HeadscaleApi(server, stack.outputs(show_secrets=True)["apiKey"])
        with exclusive_lock(PROGRAM / "scripts"), devices.throw_away(server, api) as throw_away:
            yield from lines(throw_away.checks())


def checks(server: Target) -> Iterator[Check]:
    """All that is looked at without a key."""
    for name in server.names:
        for kind in ("A", "AAAA"):
            yield Check(f"{name}: {kind}", partial(network.record, server, name, kind))
    for address in (server.ipv4, server.ipv6):
        yield Check(f"{address}: open ports", partial(network.ports, server, address))
        yield Check(f"{address}: STUN", partial(network.answers_stun, server, address))
    yield Check(f"{server.ipv4}: SSH", partial(network.logs_in, server, server.ipv4))
    for name in server.names:
        yield from website(server, name)
    for name in server.names[:-1]:
        yield from headscale(server, name)
    yield Check(f"{server.ui}: web interface", partial(web.page, server))
    yield Check(f"{server.ui}: API without a key", partial(web.api_refuses, server))


def website(server: Target, name: str) -> Iterator[Check]:
    yield Check(f"{name}: redirect", partial(web.redirects, server, name))
    yield Check(f"{name}: certificate's chain", partial(tls.chain, server, name))
    yield Check(f"{name}: certificate's names", partial(tls.named, server, name))
    yield Check(f"{name}: certificate's end", partial(tls.days_left, server, name))
    yield Check(f"{name}: TLS versions", partial(tls.versions, server, name))
    yield Check(f"{name}: ciphers", partial(tls.ciphers, server, name))
    yield Check(f"{name}: weaknesses of TLS", partial(tls.weaknesses, server, name))
    yield Check(f"{name}: security headers", partial(web.headers, server, name))


def headscale(server: Target, name: str) -> Iterator[Check]:
    yield Check(f"{name}: /health", partial(web.health, server, name))
    yield Check(f"{name}: /key", partial(web.key, server, name))
    yield Check(f"{name}: /ts2021", partial(web.upgrades, server, name))
    yield Check(f"{name}: API is closed", partial(web.api_is_closed, server, name))


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end this as Ctrl-C does: what was begun is cleaned up."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    yield


if __name__ == "__main__":
    main()
