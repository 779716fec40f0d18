"""Hetzner Cloud API v1, as much as one life of this project's server asks of it.

Servers, SSH keys, firewalls, primary IPs with their reverse names, actions, and the catalog of locations,
server types and images; of the prices, the currency. Not modelled: networks, volumes, placement groups, rebuild,
rescue, ISOs, metrics, root passwords, servers that are not started; and what the modules beside this one name.
"""

from collections.abc import Sequence
from typing import ClassVar

from rehearsal.emulators.api import Api, ApiError, Json, Request, Response, Route, route
from rehearsal.emulators.hetzner.catalog import IMAGES, LOCATIONS, PRICING, SERVER_TYPES, in_stock
from rehearsal.emulators.hetzner.endpoints import Catalog
from rehearsal.emulators.hetzner.firewalls import Firewalls
from rehearsal.emulators.hetzner.lists import page
from rehearsal.emulators.hetzner.machines import FirewallRule, Hypervisor, NoMachines, ServerSpec
from rehearsal.emulators.hetzner.primary_ips import PrimaryIps
from rehearsal.emulators.hetzner.project import Project
from rehearsal.emulators.hetzner.resources import missing
from rehearsal.emulators.hetzner.servers import Servers
from rehearsal.emulators.hetzner.ssh_keys import SshKeys

__all__ = ["FirewallRule", "Hetzner", "Hypervisor", "NoMachines", "ServerSpec"]


class Hetzner(Api):
    prefix = "/v1"
    codes: ClassVar = {400: "json_error", 401: "unauthorized", 500: "server_error", 501: "not_implemented"}

    def __init__(self, machines: Hypervisor, token: str) -> None:
        super().__init__(token)
        self.project = Project(machines, self.lock)

    def leftovers(self) -> list[str]:
        """Every server, SSH key, firewall and primary IP that is still there."""
        with self.lock:
            return self.project.leftovers()

    def is_empty(self) -> bool:
        return not self.leftovers()

    def error_body(self, error: ApiError, code: str | int) -> Json:
        return {"error": {"code": code, "message": error.message, "details": error.details}}

    def routes(self) -> Sequence[Route]:
        project = self.project
        collections = (
            Servers(project, project.servers),
            SshKeys(project, project.ssh_keys),
            Firewalls(project, project.firewalls),
            PrimaryIps(project, project.primary_ips),
            Catalog("locations", LOCATIONS),
            Catalog("server_types", SERVER_TYPES, lambda kind: in_stock(kind, project.sold_out)),
            Catalog("images", IMAGES),
        )
        return [
            route("GET", "/pricing", lambda request: Response({"pricing": PRICING})),
            route("GET", "/actions", self.list_actions),
            route("GET", "/actions/{id}", self.get_action),
            *(item for collection in collections for item in collection.routes()),
        ]

    def list_actions(self, request: Request) -> Response:
        return page(request, "actions", [action.json() for action in self.project.actions.all.values()])

    def get_action(self, request: Request, id: str) -> Response:
        action = self.project.actions.all.get(int(id)) if id.isdigit() else None
        if action is None:
            raise missing("action", id)
        return Response({"action": action.json()})
