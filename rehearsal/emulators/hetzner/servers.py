"""Servers of the Hetzner API. `user_data` goes to the machine and is never shown."""

import re
from collections.abc import Callable
from typing import Any

from rehearsal.emulators.api import ApiError, Json, NotModelled, Request, Response, Route, only, route
from rehearsal.emulators.hetzner import fields
from rehearsal.emulators.hetzner.catalog import IMAGES, LOCATIONS, SERVER_TYPES
from rehearsal.emulators.hetzner.endpoints import Collection, accepted
from rehearsal.emulators.hetzner.project import require_unlocked
from rehearsal.emulators.hetzner.resources import CloudServer, PrimaryIp, invalid

# The API's own limit.
USER_DATA_LIMIT = 32 * 1024

_LABEL = r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)"
_MODELLED = (
    *("name", "server_type", "image", "location", "user_data", "ssh_keys", "labels", "firewalls"),
    *("public_net", "start_after_create"),
)


class Servers(Collection[CloudServer]):
    kind = "servers"

    def routes(self) -> list[Route]:
        power = ("poweron", "poweroff", "shutdown", "reboot", "reset")
        actions = {name: self._power(name) for name in power} | {
            "change_type": self.change_type,
            "change_protection": self.change_protection,
            "enable_backup": self.enable_backup,
            "disable_backup": self.disable_backup,
        }
        return [
            route("POST", "/servers", self.create),
            route("DELETE", "/servers/{id}", self.delete),
            *self.action_routes(actions),
            *super().routes(),
        ]

    def shape(self, item: CloudServer) -> Json:
        return super().shape(item) | {
            "status": item.status,
            "public_net": self._public_net(item),
            "private_net": [],
            "server_type": item.server_type,
            "location": item.location,
            "image": item.image,
            "iso": None,
            "rescue_enabled": False,
            "locked": item.locked,
            "backup_window": item.backup_window,
            "protection": {"delete": item.protected, "rebuild": item.protected},
            "primary_disk_size": item.disk,
            "included_traffic": 20 * 1024**4,
            "outgoing_traffic": 0,
            "ingoing_traffic": 0,
            "volumes": [],
            "load_balancers": [],
            "placement_group": None,
        }

    def _public_net(self, item: CloudServer) -> Json:
        ipv4, ipv6 = (self.project.address_of(item, type) for type in ("ipv4", "ipv6"))
        covering = [firewall.id for firewall in self.project.firewalls.values() if firewall.covers(item)]
        return {
            "ipv4": ipv4 and _address(ipv4) | {"dns_ptr": ipv4.dns_ptr[ipv4.ip]},
            "ipv6": ipv6 and _address(ipv6) | {"dns_ptr": ipv6.pointers()},
            "floating_ips": [],
            "firewalls": [{"id": id, "status": "applied"} for id in covering],
        }

    def rename(self, item: CloudServer, body: fields.Body) -> None:
        _host_name(body.get("name") or item.name)
        super().rename(item, body)

    def create(self, request: Request) -> Response:
        body = request.body
        only(body, _MODELLED, "field")
        server = self._ordered(body)
        addresses = self._addresses(body.get("public_net") or {}, server)
        firewalls = [
            fields.existing(self.project.firewalls, entry.get("firewall"), "firewalls")
            for entry in body.get("firewalls") or []
        ]
        self.project.servers[server.id] = server
        for type, ip in addresses.items():
            (ip or self._own_address(server, type)).assignee_id = server.id
        for firewall in firewalls:
            firewall.servers.append(server.id)
        create, start = self.project.boot(server)
        return self.answer(server, 201, action=create.json(), next_actions=[start.json()], root_password=None)

    def _ordered(self, body: fields.Body) -> CloudServer:
        name, labels = _host_name(fields.name(body, self.items)), fields.labels(body)
        server_type = fields.offered(SERVER_TYPES, body.get("server_type"), "server_type")
        image = fields.offered(IMAGES, body.get("image"), "image", architecture=server_type["architecture"])
        location = fields.offered(LOCATIONS, body.get("location") or "nbg1", "location")
        _require_offer(server_type, location)
        self.project.require_stock(server_type, location)
        if not fields.flag(body, "start_after_create", default=True):
            raise NotModelled("start_after_create: false")
        keys = [fields.existing(self.project.ssh_keys, key, "ssh_keys") for key in body.get("ssh_keys") or []]
        return CloudServer(
            id=self.project.next_id(),
            name=name,
            labels=labels,
            server_type=server_type,
            image=image,
            location=location,
            disk=server_type["disk"],
            user_data=_user_data(body),
            ssh_keys=tuple(key.public_key for key in keys),
        )

    def _addresses(self, public_net: fields.Body, server: CloudServer) -> dict[str, PrimaryIp | None]:
        """By type, the primary IP that was asked for, None for one that the server brings itself."""
        only(public_net, ("enable_ipv4", "enable_ipv6", "ipv4", "ipv6"), "public_net")
        types = [t for t in ("ipv4", "ipv6") if fields.flag(public_net, f"enable_{t}", default=True)]
        return {type: self._free_address(public_net.get(type), type, server) for type in types}

    def _free_address(self, id: Any, type: str, server: CloudServer) -> PrimaryIp | None:
        if id is None:
            return None
        ip = fields.existing(self.project.primary_ips, id, f"public_net.{type}")
        if ip.type != type:
            raise ApiError(422, f"primary IP {ip.name} is an {ip.type} address", "primary_ip_version_mismatch")
        if ip.assignee_id is not None:
            raise ApiError(422, f"primary IP {ip.name} is already assigned", "primary_ip_assigned")
        if ip.location != server.location:
            raise ApiError(422, f"primary IP {ip.name} is elsewhere", "primary_ip_location_mismatch")
        return ip

    def _own_address(self, server: CloudServer, type: str) -> PrimaryIp:
        name = f"primary_ip-{server.id}-{type}"
        return self.project.add_primary_ip(name=name, type=type, location=server.location, auto_delete=True, labels={})

    def delete(self, request: Request, id: str) -> Response:
        return Response({"action": self.project.delete_server(self.find(id)).json()})

    def _power(self, command: str) -> Callable[[Request, str], Response]:
        return lambda request, id: accepted(self.project.power(self.find(id), command))

    def change_type(self, request: Request, id: str) -> Response:
        body = request.body
        server_type = fields.offered(SERVER_TYPES, body.get("server_type"), "server_type")
        upgrade_disk = fields.flag(body, "upgrade_disk", default=True)
        return accepted(self.project.change_type(self.find(id), server_type, upgrade_disk))

    def change_protection(self, request: Request, id: str) -> Response:
        server, body = self.find(id), request.body
        delete, rebuild = (fields.flag(body, key, default=server.protected) for key in ("delete", "rebuild"))
        if delete != rebuild:
            raise invalid("delete", "delete and rebuild protection must be equal")
        server.protected = delete
        return self._done("change_protection", server)

    def enable_backup(self, request: Request, id: str) -> Response:
        server = self.find(id)
        server.backup_window = "22-02"
        return self._done("enable_backup", server)

    def disable_backup(self, request: Request, id: str) -> Response:
        server = self.find(id)
        server.backup_window = None
        return self._done("disable_backup", server)

    def _done(self, command: str, server: CloudServer) -> Response:
        require_unlocked(server)
        return accepted(self.project.actions.done(command, ("server", server.id)))


def _address(ip: PrimaryIp) -> Json:
    return {"id": ip.id, "ip": ip.ip, "blocked": False}


def _host_name(name: str) -> str:
    if not re.fullmatch(rf"{_LABEL}(\.{_LABEL})*", name):
        raise invalid("name", f"{name!r} is not a host name")
    return name


def _user_data(body: fields.Body) -> str:
    value = body.get("user_data") or ""
    if len(value.encode()) > USER_DATA_LIMIT:
        raise invalid("user_data", f"longer than {USER_DATA_LIMIT} bytes")
    return value


def _require_offer(server_type: Json, location: Json) -> None:
    if location["name"] not in [offer["name"] for offer in server_type["locations"]]:
        raise invalid("location", f"{server_type['name']} is not offered in {location['name']}")
