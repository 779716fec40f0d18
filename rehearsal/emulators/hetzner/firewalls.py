"""Firewalls of the Hetzner API: their rules, and what they are applied to."""

import ipaddress
import re
from collections.abc import Sequence

from rehearsal.emulators.api import ApiError, Json, Request, Response, Route, only, route
from rehearsal.emulators.hetzner import fields, labels
from rehearsal.emulators.hetzner.actions import Action
from rehearsal.emulators.hetzner.endpoints import Collection
from rehearsal.emulators.hetzner.resources import Firewall, invalid


class Firewalls(Collection[Firewall]):
    kind = "firewalls"

    def routes(self) -> list[Route]:
        actions = {
            "set_rules": self.set_rules,
            "apply_to_resources": self.apply,
            "remove_from_resources": self.remove,
        }
        return [
            route("POST", "/firewalls", self.create),
            route("DELETE", "/firewalls/{id}", self.delete),
            *self.action_routes(actions),
            *super().routes(),
        ]

    def shape(self, item: Firewall) -> Json:
        return super().shape(item) | {
            "rules": item.rules,
            "applied_to": [
                *(_server(id) for id in item.servers),
                *(self._selection(item, selector) for selector in item.selectors),
            ],
        }

    def _selection(self, item: Firewall, selector: str) -> Json:
        chosen = [server.id for server in self.project.servers.values() if item.chooses(server, selector)]
        return {
            "type": "label_selector",
            "label_selector": {"selector": selector},
            "applied_to_resources": [_server(id) for id in chosen],
        }

    def create(self, request: Request) -> Response:
        body = request.body
        only(body, ("name", "labels", "rules", "apply_to"), "field")
        name, own_labels, checked = fields.name(body, self.items), fields.labels(body), rules(body)
        servers, selectors = self._targets(body.get("apply_to") or [])
        item = Firewall(
            id=self.project.next_id(),
            name=name,
            labels=own_labels,
            rules=checked,
            servers=servers,
            selectors=selectors,
        )
        self.project.firewalls[item.id] = item
        return self.answer(item, 201, actions=self._actions("set_firewall_rules", item))

    def set_rules(self, request: Request, id: str) -> Response:
        item = self.find(id)
        only(request.body, ("rules",), "field")
        item.rules = rules(request.body)
        return Response({"actions": self._actions("set_firewall_rules", item)}, 201)

    def apply(self, request: Request, id: str) -> Response:
        item = self.find(id)
        servers, selectors = self._targets(request.body.get("apply_to") or [])
        if {*servers, *selectors} & {*item.servers, *item.selectors}:
            raise ApiError(422, f"firewall {item.name} is already applied", "firewall_already_applied")
        item.servers += servers
        item.selectors += selectors
        return Response({"actions": self._actions("apply_firewall", item)}, 201)

    def remove(self, request: Request, id: str) -> Response:
        item = self.find(id)
        servers, selectors = self._targets(request.body.get("remove_from") or [])
        if not {*servers, *selectors} <= {*item.servers, *item.selectors}:
            raise ApiError(422, f"firewall {item.name} is not applied there", "firewall_already_removed")
        item.servers = [id for id in item.servers if id not in servers]
        item.selectors = [text for text in item.selectors if text not in selectors]
        return Response({"actions": self._actions("remove_firewall", item)}, 201)

    def delete(self, request: Request, id: str) -> Response:
        item = self.find(id)
        if item.servers or item.selectors:
            raise ApiError(422, f"firewall {item.name} is in use", "resource_in_use")
        del self.project.firewalls[item.id]
        return Response(status=204)

    def _actions(self, command: str, item: Firewall) -> list[Json]:
        """The actions done to the firewall, and those that follow for machines."""
        process: Action = self.project.actions.done(command, ("firewall", item.id))
        return [action.json() for action in (process, *self.project.sync_firewalls())]

    def _targets(self, resources: Sequence[Json]) -> tuple[list[int], list[str]]:
        chosen = [self._target(resource) for resource in resources]
        return [x for x in chosen if isinstance(x, int)], [x for x in chosen if isinstance(x, str)]

    def _target(self, resource: Json) -> int | str:
        try:
            if resource.get("type") == "server":
                return self.project.servers[resource["server"]["id"]].id
            selector = str(resource["label_selector"]["selector"])
            labels.selector(selector)
            return selector
        except (KeyError, TypeError, ValueError) as error:
            message = f"no such resource: {resource!r}"
            raise ApiError(422, message, "firewall_resource_not_found") from error


def _server(id: int) -> Json:
    return {"type": "server", "server": {"id": id}}


MOST_NETWORKS = 100


def rules(body: fields.Body) -> list[Json]:
    return [_rule(rule, f"rules[{n}]") for n, rule in enumerate(body.get("rules") or [])]


def _rule(rule: fields.Body, field: str) -> Json:
    only(rule, ("direction", "protocol", "port", "source_ips", "destination_ips", "description"), "rule field")
    direction, protocol, port = rule.get("direction"), rule.get("protocol"), rule.get("port")
    if direction not in ("in", "out") or protocol not in ("tcp", "udp", "icmp", "esp", "gre"):
        raise invalid(field, f"direction {direction!r}, protocol {protocol!r}")
    if not _port_fits(protocol, port):
        raise invalid(f"{field}.port", f"{port!r} with protocol {protocol}")
    used, unused = ["source_ips", "destination_ips"][:: 1 if direction == "in" else -1]
    if rule.get(unused) or not rule.get(used):
        raise invalid(f"{field}.{used}", f"required for direction {direction!r}, without {unused}")
    if len(rule[used]) > MOST_NETWORKS:
        raise invalid(f"{field}.{used}", f"more than {MOST_NETWORKS} networks")
    head = {
        "direction": direction,
        "protocol": protocol,
        "port": port,
        "description": rule.get("description"),
    }
    return head | {used: _networks(rule[used], f"{field}.{used}"), unused: []}


def _port_fits(protocol: str, port: object) -> bool:
    if protocol not in ("tcp", "udp"):
        return port is None
    if not isinstance(port, str) or not re.fullmatch(r"any|\d{1,5}(-\d{1,5})?", port):
        return False
    numbers = [] if port == "any" else [int(part) for part in port.split("-")]
    return numbers == sorted(numbers) and all(1 <= number <= 65535 for number in numbers)


def _networks(texts: Sequence[str], field: str) -> list[str]:
    try:
        return [str(ipaddress.ip_network(text)) for text in texts]
    except ValueError as error:
        raise invalid(field, str(error)) from error
