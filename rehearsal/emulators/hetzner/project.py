"""One Hetzner Cloud project and the rules its servers, SSH keys, firewalls and primary IPs obey.

All methods are called under the API's lock. Not modelled: a machine learns no address after its creation
(assign and unassign change only what the API says), its host name does not follow a rename, limits of a
project.
"""

import itertools
import threading
from collections.abc import Callable, Mapping

from rehearsal.emulators.api import ApiError, Json
from rehearsal.emulators.hetzner.actions import Action, Actions
from rehearsal.emulators.hetzner.machines import FirewallRule, Hypervisor, ServerSpec
from rehearsal.emulators.hetzner.resources import CloudServer, Firewall, PrimaryIp, Resource, SshKey


class Project:
    def __init__(self, machines: Hypervisor, lock: threading.RLock) -> None:
        self.servers: dict[int, CloudServer] = {}
        self.ssh_keys: dict[int, SshKey] = {}
        self.firewalls: dict[int, Firewall] = {}
        self.primary_ips: dict[int, PrimaryIp] = {}
        # By server type and location, whether the list of server types tells it.
        self.sold_out: dict[tuple[str, str], bool] = {}
        self.actions = Actions(lock)
        self._machines = machines
        self._ids = itertools.count(1001)
        # No address is given out twice, so that nothing works because it remembers a former server's address.
        self._addresses = {
            "ipv4": (f"203.0.113.{n}" for n in range(10, 255)),
            "ipv6": (f"2001:db8:{n:x}::/64" for n in itertools.count(0x10)),
        }

    def next_id(self) -> int:
        return next(self._ids)

    def leftovers(self) -> list[str]:
        kinds: Mapping[str, Mapping[int, Resource]] = {
            "server": self.servers,
            "ssh_key": self.ssh_keys,
            "firewall": self.firewalls,
            "primary_ip": self.primary_ips,
        }
        return [f"{kind} {item.name}" for kind, items in kinds.items() for item in items.values()]

    def add_primary_ip(
        self, *, name: str, type: str, location: Json, auto_delete: bool, labels: dict[str, str]
    ) -> PrimaryIp:
        address = next(self._addresses[type], None)
        if address is None:
            raise ApiError(403, f"no {type} address is left", "resource_limit_exceeded")
        item = PrimaryIp(
            id=self.next_id(),
            name=name,
            labels=labels,
            type=type,
            ip=address,
            location=location,
            auto_delete=auto_delete,
            dns_ptr={address: default_pointer(address)} if type == "ipv4" else {},
        )
        self.primary_ips[item.id] = item
        return item

    def address_of(self, server: CloudServer, type: str) -> PrimaryIp | None:
        return next((ip for ip in self.addresses_of(server) if ip.type == type), None)

    def addresses_of(self, server: CloudServer) -> list[PrimaryIp]:
        return [ip for ip in self.primary_ips.values() if ip.assignee_id == server.id]

    def require_room(self, server: CloudServer, type: str) -> None:
        """A server takes a new address of this type when it is off and has none."""
        if self.address_of(server, type):
            raise ApiError(422, f"server {server.name} has an {type} address", f"server_has_{type}")
        _require_off(server)

    def assign(self, ip: PrimaryIp, server: CloudServer) -> None:
        if ip.assignee_id is not None:
            raise ApiError(422, f"primary IP {ip.name} is already assigned", "primary_ip_already_assigned")
        self.require_room(server, ip.type)
        ip.assignee_id = server.id

    def unassign(self, ip: PrimaryIp) -> None:
        if ip.assignee_id is None:
            raise ApiError(422, f"primary IP {ip.name} is not assigned", "primary_ip_not_assigned")
        _require_off(self.servers[ip.assignee_id])
        ip.assignee_id = None

    def delete_primary_ip(self, ip: PrimaryIp) -> None:
        if ip.protected:
            raise ApiError(403, f"primary IP {ip.name} is delete protected", "protected")
        if ip.assignee_id is not None:
            raise ApiError(422, f"primary IP {ip.name} must be unassigned first", "must_be_unassigned")
        del self.primary_ips[ip.id]

    def boot(self, server: CloudServer) -> tuple[Action, Action]:
        """Order the machine of a server that has its addresses and firewalls."""
        create = self.actions.begin("create_server", ("server", server.id), ("image", server.image["id"]))
        start = self.actions.begin("start_server", ("server", server.id))
        spec, rules = self._spec(server), self._rules_of(server)
        server.action, server.rules = start, rules

        def work() -> None:
            self._machines.create(spec)
            if rules is not None:
                self._machines.set_firewall(server.id, rules)

        self.actions.run((create, start), work, lambda error: _settle(server, "running", error))
        return create, start

    def _spec(self, server: CloudServer) -> ServerSpec:
        address = {ip.type: ip.ip for ip in self.addresses_of(server)}
        return ServerSpec(
            id=server.id,
            name=server.name,
            image=server.image["name"],
            server_type=server.server_type["name"],
            location=server.location["name"],
            ipv4=address.get("ipv4"),
            ipv6=address.get("ipv6"),
            user_data=server.user_data,
            ssh_keys=server.ssh_keys,
            labels=dict(server.labels),
        )

    def power(self, server: CloudServer, command: str) -> Action:
        """`command` is the last part of the action's path."""
        machines, id = self._machines, server.id
        name, needed, during, after, steps = {
            "poweron": ("start_server", "off", "starting", "running", (machines.power_on,)),
            "poweroff": ("stop_server", "running", "stopping", "off", (machines.power_off,)),
            "shutdown": ("shutdown_server", "running", "stopping", "off", (machines.power_off,)),
            "reboot": ("reboot_server", "running", "running", "running", (machines.reboot,)),
            "reset": (
                "reset_server",
                "running",
                "running",
                "running",
                (machines.power_off, machines.power_on),
            ),
        }[command]
        require_unlocked(server)
        if server.status != needed and server.status == after:
            return self.actions.done(name, ("server", id))
        if server.status != needed:
            raise ApiError(422, f"server {server.name} is {server.status}, not {needed}", "unsupported_error")
        return self._change(server, name, during, after, *(lambda step=step: step(id) for step in steps))

    def require_stock(self, server_type: Json, location: Json) -> None:
        if (server_type["name"], location["name"]) in self.sold_out:
            raise ApiError(412, f"{server_type['name']} in {location['name']} is unavailable", "resource_unavailable")

    def change_type(self, server: CloudServer, server_type: Json, upgrade_disk: bool) -> Action:
        """The machine starts again by itself; what runs it is the same machine as before."""
        require_unlocked(server)
        _require_off(server)
        self.require_stock(server_type, server.location)
        if server_type["architecture"] != server.image["architecture"] or server_type["disk"] < server.disk:
            raise ApiError(422, f"{server_type['name']} does not fit {server.name}", "invalid_server_type")
        server.server_type = server_type
        server.disk = server_type["disk"] if upgrade_disk else server.disk
        return self._change(
            server, "change_server_type", "migrating", "running", lambda: self._machines.power_on(server.id)
        )

    def _change(self, server: CloudServer, command: str, during: str, after: str, *steps: Callable[[], None]) -> Action:
        server.action = action = self.actions.begin(command, ("server", server.id))
        server.status = during

        def work() -> None:
            for step in steps:
                step()

        self.actions.run((action,), work, lambda error: _settle(server, after, error))
        return action

    def delete_server(self, server: CloudServer) -> Action:
        require_unlocked(server)
        if server.protected:
            raise ApiError(403, f"server {server.name} is delete protected", "protected")
        server.action = action = self.actions.begin("delete_server", ("server", server.id))
        server.status = "deleting"
        self.actions.run((action,), lambda: self._machines.delete(server.id), lambda error: self._forget(server, error))
        return action

    def _forget(self, server: CloudServer, error: Exception | None) -> None:
        if error:
            server.status = "unknown"
            return
        del self.servers[server.id]
        for ip in self.addresses_of(server):
            ip.assignee_id = None
            if ip.auto_delete:
                del self.primary_ips[ip.id]
        for firewall in self.firewalls.values():
            firewall.servers = [id for id in firewall.servers if id != server.id]

    def _rules_of(self, server: CloudServer) -> list[FirewallRule] | None:
        covering = [firewall for firewall in self.firewalls.values() if firewall.covers(server)]
        return [rule for firewall in covering for rule in firewall.passes()] if covering else None

    def sync_firewalls(self) -> list[Action]:
        """Send each machine the rules that hold for it now, if they are not what it has."""
        servers = [server for server in self.servers.values() if server.status != "deleting"]
        return [self._send_rules(server) for server in servers if server.rules != self._rules_of(server)]

    def _send_rules(self, server: CloudServer) -> Action:
        server.rules = rules = self._rules_of(server)
        action = self.actions.begin("apply_firewall", ("server", server.id))
        self.actions.run((action,), lambda: self._machines.set_firewall(server.id, rules), lambda error: None)
        return action


def default_pointer(ipv4: str) -> str:
    """The reverse name that Hetzner gives an address of its own accord."""
    return f"static.{'.'.join(reversed(ipv4.split('.')))}.clients.your-server.de"


def _settle(server: CloudServer, status: str, error: Exception | None) -> None:
    server.status = "unknown" if error else status


def require_unlocked(server: CloudServer) -> None:
    if server.locked:
        raise ApiError(423, f"server {server.name} is locked by another action", "locked")


def _require_off(server: CloudServer) -> None:
    if server.status != "off":
        raise ApiError(422, f"server {server.name} must be stopped first", "server_not_stopped")
