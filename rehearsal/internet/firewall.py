"""Hetzner's cloud firewall: rules per server, stateful, enforced in the hub in front of the server.

Not modelled: the limit of rules, and how long a connection outlives the rule that let it in.
"""

import ipaddress
from collections.abc import Sequence
from itertools import chain

from rehearsal.emulators.hetzner import FirewallRule
from rehearsal.internet.network import HUB, nft

PROTOCOLS = {"icmp": "meta l4proto { icmp, ipv6-icmp }"}


def guard(server_id: int, rules: Sequence[FirewallRule] | None) -> None:
    """Replace a server's rules in one step; None removes the firewall, [] admits nothing."""
    inbound = [rule for rule in rules or () if rule.direction == "in"]
    outbound = [rule for rule in rules or () if rule.direction == "out"]
    nft(
        commands("inbound", server_id, inbound, closed=rules is not None)
        + commands("outbound", server_id, outbound, closed=bool(outbound)),
        HUB,
    )


def commands(direction: str, server_id: int, rules: Sequence[FirewallRule], *, closed: bool) -> str:
    """The nft commands that write one direction of one server; `closed` drops what no rule lets through."""
    name = f"{direction}_{server_id}"
    verdicts = [*chain.from_iterable(map(statements, rules)), "drop" if closed else "return"]
    return "\n".join(
        [
            f"add chain inet cloud {name}",
            f"flush chain inet cloud {name}",
            *(f"add rule inet cloud {name} {verdict}" for verdict in verdicts),
            f'add element inet cloud {direction} {{ "srv-{server_id}" : jump {name} }}\n',
        ]
    )


def statements(rule: FirewallRule) -> list[str]:
    """One nft statement for each network of a rule: the source of inbound traffic, the target of outbound."""
    side = "saddr" if rule.direction == "in" else "daddr"
    port = f" dport {rule.port}" if rule.port and rule.port != "any" else ""
    what = f"{rule.protocol}{port}" if port else PROTOCOLS.get(rule.protocol, f"meta l4proto {rule.protocol}")
    networks = [ipaddress.ip_network(network) for network in rule.networks]
    return [f"{'ip6' if net.version == 6 else 'ip'} {side} {net} {what} accept" for net in networks]


def release(server_id: int) -> None:
    """Forget a server, whether or not it ever had rules."""
    for direction in ("inbound", "outbound"):
        name = f"{direction}_{server_id}"
        element = f'element inet cloud {direction} {{ "srv-{server_id}" : jump {name} }}'
        nft(f"add chain inet cloud {name}\nadd {element}\ndelete {element}\ndelete chain inet cloud {name}", HUB)
