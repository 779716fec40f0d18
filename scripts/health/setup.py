"""The operator's set-up as several checks need it, each part of it asked for once and all of them at the same time."""

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import rules
import tokens
from scripts.commands import Refused, StackSettings, require, run

from . import api
from .lines import Unknown, begin
from .settings import Settings

T = TypeVar("T")
CLOUDFLARE = "https://api.cloudflare.com/client/v4"
# What the stack reads of Hetzner, by the words of hcloud's commands.
LISTS = {
    "server-type": "server_types",
    "server": "servers",
    "primary-ip": "primary_ips",
    "firewall": "firewalls",
    "ssh-key": "ssh_keys",
}
Things = list[dict[str, Any]]


class Source(Generic[T]):
    """A part of the set-up, begun at once. One check tells why it is not there; for the others it is not known."""

    def __init__(self, name: str, work: Callable[[], T]) -> None:
        self._name, self._future = name, begin(work)

    def result(self) -> T:
        return self._future.result()

    def __call__(self) -> T:
        try:
            return self.result()
        except (Refused, rules.Rejected, Unknown, OSError):
            raise Unknown(f"not looked at without {self._name}") from None


class Setup:
    """A stack and all that its commands depend on; whatever a part needs of another one, it waits for."""

    def __init__(self, name: str | None, config_file: Path | None) -> None:
        self.pulumi = Source("pulumi", _pulumi_version)
        self.backend = Source("a backend", _backend)
        self.stack = Source("a stack", lambda: StackSettings(name, config_file))
        self.settings = Source("the stack's configuration", self._settings)
        self.state = Source("the stack's state", lambda: self.stack().state())
        self.hetzner = Source("Hetzner's token", self._hetzner)
        self.lists = {kind: Source(f"Hetzner's list of {kind}s", partial(self._list, kind)) for kind in LISTS}
        self.cloudflare = Source("Cloudflare's token", self._cloudflare)
        self.zones = Source("Cloudflare's zones", self._zones)
        self.records = Source("the records of the names", self._records)

    def ids(self, resource_type: str) -> set[str]:
        """The ids of the state's resources of a type."""
        resources = self.state().get("resources") or []
        return {str(resource.get("id")) for resource in resources if resource["type"] == resource_type}

    def _settings(self) -> Settings:
        return Settings(self.stack().name, self.stack().values())

    def _hetzner(self) -> api.CloudApi:
        settings = self.settings()
        url = settings.get("hcloud:endpoint") or os.environ.get("HCLOUD_ENDPOINT") or api.HETZNER
        return api.hetzner(url, tokens.hetzner(settings.get))

    def _list(self, kind: str) -> Things:
        return self.hetzner().list(LISTS[kind], LISTS[kind])

    def _cloudflare(self) -> api.CloudApi:
        settings = self.settings()
        url = settings.get("cloudflare:baseUrl") or os.environ.get("CLOUDFLARE_BASE_URL") or CLOUDFLARE
        headers = tokens.cloudflare(settings.get, settings.text("zone") or settings.text("domain"))
        return api.CloudApi(url, headers, _next_page_at_cloudflare)

    def _zones(self) -> dict[str, dict[str, Any]]:
        """The zones of the names that Cloudflare shows, by their names."""
        names = {zone for _, zone in self.settings().names}
        lists = {zone: begin(partial(self.cloudflare().list, "zones", "result", name=zone)) for zone in names}
        return {zone: items[0] for zone, future in lists.items() if (items := future.result())}

    def _records(self) -> dict[str, Things]:
        """The records at each name whose zone is there."""
        zones = self.zones()
        ids = {name: zones[zone]["id"] for name, zone in self.settings().names if zone in zones}
        lists = {
            name: begin(partial(self.cloudflare().list, f"zones/{id}/dns_records", "result", **{"name.exact": name}))
            for name, id in ids.items()
        }
        return {name: future.result() for name, future in lists.items()}


def _pulumi_version() -> str:
    require("pulumi")
    return run("pulumi", "version").strip()


def _backend() -> dict[str, str]:
    backend: dict[str, str] = json.loads(run("pulumi", "--non-interactive", "whoami", "--json"))
    return backend


def _next_page_at_cloudflare(answer: dict[str, Any]) -> int | None:
    info = answer["result_info"]
    return info["page"] + 1 if info["page"] < info["total_pages"] else None
