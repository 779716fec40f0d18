"""This machine's public address, which the firewall has to let in."""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

import rules
from scripts.commands import Refused

from .api import get
from .lines import Line, fails, not_known, ok, say, warning
from .setup import Setup

Address = IPv4Address | IPv6Address
# Answers by IPv4 alone, as SSH reaches the server.
SERVICE = "https://checkip.amazonaws.com"


def check(setup: Setup, address: Address | None, service: str) -> Iterator[Line]:
    """It is not asked for where nothing depends on it."""
    networks = setup.settings().admin_networks
    if not networks:
        yield warning(
            "headscale:adminNetworks is empty: SSH is open to you and to anyone",
            "`pulumi config set --path 'headscale:adminNetworks[0]' YOUR_ADDRESS/32` closes it to others",
        )
        return
    try:
        yield _judge(setup, address or _ask(service), networks)
    except (Refused, OSError) as problem:
        yield not_known(f"{service} was asked for it: {problem}", "--address ADDRESS gives it")


def _judge(setup: Setup, address: Address, networks: list[rules.Network]) -> Line:
    if any(address in network for network in networks):
        return ok(f"{address} is among adminNetworks")
    item = f"'headscale:adminNetworks[{len(networks)}]' {address}/{address.max_prefixlen}"
    remedy = f"`pulumi config set --path {item}` lets it in"
    if setup.settings().text("adminNetworksExcludeMe") == "true":
        return warning(f"{address} is left out of adminNetworks, as adminNetworksExcludeMe allows", remedy)
    return fails(f"{address} is not among adminNetworks: SSH, and so `pulumi up`, is closed to this machine", remedy)


def _ask(service: str) -> Address:
    say(f"asking {service} for this machine's public address; --address ADDRESS makes that unneeded")
    answer = get(service, {}).decode(errors="replace").strip()
    try:
        return ip_address(answer)
    except ValueError:
        raise Refused(f"it answered {answer[:40]!r}, which is not an address") from None
