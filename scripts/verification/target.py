"""The server as the stack describes it: what to look at, and what should be there."""

import ipaddress
import socket
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

import rules

from ..commands import Refused, StackSettings
from ..init import about
from . import stun
from .report import NotChecked


@dataclass(frozen=True, kw_only=True)
class Target:
    """`authority` is a file of more certificates to trust; `resolver` is asked instead of the usual one."""

    headscale: str
    former: tuple[str, ...]
    ui: str
    ipv4: str
    ipv6: str
    host_keys: tuple[str, ...]
    deploy_key: str = field(repr=False)
    admin_networks: tuple[str, ...]
    ui_networks: tuple[str, ...]
    authority: Path | None
    resolver: str | None

    @property
    def names(self) -> list[str]:
        return [self.headscale, *self.former, self.ui]

    def admits_ssh(self, address: str) -> bool | None:
        """True where Hetzner's firewall lets this machine reach SSH; None where its own address is not known."""
        return _admits(self.admin_networks, stun.own_address(address))

    def admits_ui(self) -> bool | None:
        return _admits(self.ui_networks, stun.own_address(self.ipv4))


def of(stack: StackSettings, authority: Path | None, resolver: str | None) -> Target:
    outputs = stack.outputs()
    if lacking := {"headscaleUrl", "uiUrl", "serverIpv4", "serverIpv6"} - outputs.keys():
        raise Refused(
            f"the stack {stack.name} has no output {', '.join(sorted(lacking))}: `pulumi up` makes the server first"
        )
    settings = stack.values()
    with about("headscale:sshHostKey", "`scripts/init` makes one"):
        host_key = rules.private_key(settings.get("headscale:sshHostKey", "").strip() + "\n")
    former = settings.get("headscale:formerSshHostKey", "").strip()
    return Target(
        headscale=urlsplit(outputs["headscaleUrl"]).netloc,
        former=tuple(name.split()[0] for name in stack.entries("formerHeadscaleNames")),
        ui=urlsplit(outputs["uiUrl"]).netloc,
        ipv4=outputs["serverIpv4"],
        ipv6=outputs["serverIpv6"],
        host_keys=tuple(key for key in (host_key, former) if key),
        deploy_key=settings.get("headscale:deployKey", "").strip() + "\n",
        admin_networks=tuple(stack.entries("adminNetworks")),
        ui_networks=tuple(stack.entries("uiAllowedNetworks")),
        authority=authority,
        resolver=resolver,
    )


@lru_cache
def require_route(address: str) -> None:
    """Tell where this machine has no way to the address; no packet is sent."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_DGRAM)) as probe:
        try:
            probe.connect((address, 443))
        except OSError:
            raise NotChecked(f"this machine has no route to {address}") from None


def _admits(networks: Sequence[str], own: str | None) -> bool | None:
    if not networks:
        return True
    if own is None:
        return None
    return any(ipaddress.ip_address(own) in ipaddress.ip_network(network, strict=False) for network in networks)
