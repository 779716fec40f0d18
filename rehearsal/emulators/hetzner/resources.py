"""The things a Hetzner Cloud project holds, and the two refusals that all of them share."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rehearsal.emulators.api import ApiError, Json
from rehearsal.emulators.hetzner import labels
from rehearsal.emulators.hetzner.actions import Action, now
from rehearsal.emulators.hetzner.machines import FirewallRule


@dataclass(kw_only=True)
class Resource:
    id: int
    name: str
    labels: dict[str, str]
    created: str = field(default_factory=now)


@dataclass(kw_only=True)
class SshKey(Resource):
    public_key: str
    fingerprint: str


@dataclass(kw_only=True)
class PrimaryIp(Resource):
    type: str
    ip: str
    location: Json
    auto_delete: bool
    assignee_id: int | None = None
    protected: bool = False
    dns_ptr: dict[str, str] = field(default_factory=dict)

    def pointers(self) -> list[Json]:
        return [{"ip": address, "dns_ptr": name} for address, name in self.dns_ptr.items()]


@dataclass(kw_only=True)
class CloudServer(Resource):
    server_type: Json
    image: Json
    location: Json
    disk: int
    user_data: str
    ssh_keys: tuple[str, ...]
    status: str = "initializing"
    backup_window: str | None = None
    protected: bool = False
    action: Action | None = None
    rules: Sequence[FirewallRule] | None = None

    @property
    def locked(self) -> bool:
        return self.action is not None and self.action.running


@dataclass(kw_only=True)
class Firewall(Resource):
    rules: list[Json]
    servers: list[int] = field(default_factory=list)
    selectors: list[str] = field(default_factory=list)

    def chooses(self, server: CloudServer, selector: str) -> bool:
        return labels.selector(selector)(server.labels)

    def covers(self, server: CloudServer) -> bool:
        return server.id in self.servers or any(self.chooses(server, text) for text in self.selectors)

    def passes(self) -> list[FirewallRule]:
        return [_rule(rule) for rule in self.rules]


def _rule(rule: Json) -> FirewallRule:
    networks = rule["source_ips"] if rule["direction"] == "in" else rule["destination_ips"]
    port = None if rule["port"] == "any" else rule["port"]
    return FirewallRule(rule["direction"], rule["protocol"], port, tuple(networks))


def missing(kind: str, id: object) -> ApiError:
    return ApiError(404, f"{kind} with ID '{id}' not found", "not_found")


def invalid(name: str, message: str) -> ApiError:
    fields = {"fields": [{"name": name, "messages": [message]}]}
    return ApiError(422, f"invalid input in field '{name}': {message}", "invalid_input", fields)
