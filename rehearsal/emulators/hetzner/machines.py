"""The interface from the Hetzner emulator to the machines behind it.

Calls come one at a time, in the order of the API requests, from a thread of the emulator's own. An
exception becomes the error of the action that the client waits for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class ServerSpec:
    """A server as it was ordered; `ssh_keys` are public keys in authorized_keys form."""

    id: int
    name: str
    image: str
    server_type: str
    location: str
    ipv4: str | None
    ipv6: str | None
    user_data: str
    ssh_keys: tuple[str, ...]
    labels: Mapping[str, str]


@dataclass(frozen=True)
class FirewallRule:
    """Traffic that passes: `networks` are sources of direction "in", destinations of "out".

    `port` is "80" or "80-85", None for all. Inbound traffic without a rule is dropped; outbound traffic
    passes unless there is an "out" rule.
    """

    direction: str
    protocol: str
    port: str | None
    networks: tuple[str, ...]


class Hypervisor(Protocol):
    def create(self, spec: ServerSpec) -> None:
        """Return when the machine has begun to boot."""
        ...

    def delete(self, server_id: int) -> None:
        """Return when nothing of the machine is left, also of one whose creation failed."""
        ...

    def power_on(self, server_id: int) -> None: ...

    def power_off(self, server_id: int) -> None: ...

    def reboot(self, server_id: int) -> None: ...

    def set_firewall(self, server_id: int, rules: Sequence[FirewallRule] | None) -> None:
        """None: no firewall; empty: a firewall that lets nothing in."""
        ...


class NoMachines:
    """For tests of the API alone: every order succeeds and nothing runs."""

    def create(self, spec: ServerSpec) -> None: ...

    def delete(self, server_id: int) -> None: ...

    def power_on(self, server_id: int) -> None: ...

    def power_off(self, server_id: int) -> None: ...

    def reboot(self, server_id: int) -> None: ...

    def set_firewall(self, server_id: int, rules: Sequence[FirewallRule] | None) -> None: ...
