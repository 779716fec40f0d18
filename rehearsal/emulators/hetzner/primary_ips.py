"""Primary IPs of the Hetzner API, in the dialect of August 2026: `location`, and "unassigned" when free."""

import ipaddress

from rehearsal.emulators.api import Json, Request, Response, Route, only, route
from rehearsal.emulators.hetzner import fields
from rehearsal.emulators.hetzner.actions import Action
from rehearsal.emulators.hetzner.catalog import LOCATIONS
from rehearsal.emulators.hetzner.endpoints import Collection, accepted
from rehearsal.emulators.hetzner.project import default_pointer
from rehearsal.emulators.hetzner.resources import CloudServer, PrimaryIp, invalid


class PrimaryIps(Collection[PrimaryIp]):
    kind = "primary_ips"

    def routes(self) -> list[Route]:
        actions = {
            "assign": self.assign,
            "unassign": self.unassign,
            "change_dns_ptr": self.change_dns_ptr,
            "change_protection": self.change_protection,
        }
        return [
            route("POST", "/primary_ips", self.create),
            route("DELETE", "/primary_ips/{id}", self.delete),
            *self.action_routes(actions),
            *super().routes(),
        ]

    def shape(self, item: PrimaryIp) -> Json:
        return super().shape(item) | {
            "type": item.type,
            "ip": item.ip,
            "dns_ptr": item.pointers(),
            "assignee_id": item.assignee_id,
            "assignee_type": "unassigned" if item.assignee_id is None else "server",
            "auto_delete": item.auto_delete,
            "blocked": False,
            "protection": {"delete": item.protected},
            "location": item.location,
        }

    def create(self, request: Request) -> Response:
        body = request.body
        only(
            body,
            ("name", "type", "labels", "auto_delete", "location", "assignee_type", "assignee_id"),
            "field",
        )
        name, labels = fields.name(body, self.items), fields.labels(body)
        if body.get("type") not in ("ipv4", "ipv6"):
            raise invalid("type", f"{body.get('type')!r} is not ipv4 or ipv6")
        server, where = self._place(body)
        ip = self.project.add_primary_ip(
            name=name,
            type=body["type"],
            location=where,
            auto_delete=fields.flag(body, "auto_delete", default=False),
            labels=labels,
        )
        if server is None:
            return self.answer(ip, 201, action=None)
        self.project.assign(ip, server)
        return self.answer(ip, 201, action=self._done("assign_primary_ip", ip).json())

    def _place(self, body: fields.Body) -> tuple[CloudServer | None, Json]:
        if bool(body.get("location")) == bool(body.get("assignee_id")):
            raise invalid("location", "either location or assignee_id is required")
        if body.get("location"):
            return None, fields.offered(LOCATIONS, body["location"], "location")
        server = fields.existing(self.project.servers, body["assignee_id"], "assignee_id")
        self.project.require_room(server, body["type"])
        return server, server.location

    def update(self, request: Request, id: str) -> Response:
        item = self.find(id)
        only(request.body, ("name", "labels", "auto_delete"), "field")
        self.rename(item, request.body)
        item.auto_delete = fields.flag(request.body, "auto_delete", default=item.auto_delete)
        return self.answer(item)

    def delete(self, request: Request, id: str) -> Response:
        self.project.delete_primary_ip(self.find(id))
        return Response(status=204)

    def assign(self, request: Request, id: str) -> Response:
        ip, body = self.find(id), request.body
        only(body, ("assignee_id", "assignee_type"), "field")
        self.project.assign(ip, fields.existing(self.project.servers, body.get("assignee_id"), "assignee_id"))
        return accepted(self._done("assign_primary_ip", ip))

    def unassign(self, request: Request, id: str) -> Response:
        ip = self.find(id)
        self.project.unassign(ip)
        return accepted(self._done("unassign_primary_ip", ip))

    def change_dns_ptr(self, request: Request, id: str) -> Response:
        ip, address, name = self.find(id), request.body.get("ip"), request.body.get("dns_ptr")
        if not _within(address, ip.ip):
            raise invalid("ip", f"{address!r} is not an address of {ip.ip}")
        if name is None and ip.type == "ipv6":
            ip.dns_ptr.pop(str(address), None)
        else:
            ip.dns_ptr[str(address)] = name or default_pointer(ip.ip)
        return accepted(self._done("change_dns_ptr", ip))

    def change_protection(self, request: Request, id: str) -> Response:
        ip = self.find(id)
        ip.protected = fields.flag(request.body, "delete", default=ip.protected)
        return accepted(self._done("change_protection", ip))

    def _done(self, command: str, ip: PrimaryIp) -> Action:
        return self.project.actions.done(command, ("primary_ip", ip.id))


def _within(address: object, network: str) -> bool:
    try:
        return ipaddress.ip_address(str(address)) in ipaddress.ip_network(network)
    except ValueError:
        return False
