"""Cloudflare v4 API: zones to look up, and their A, AAAA, CNAME and TXT records.

The DNS server learns the records from `on_change`, before the API's answer goes out. The plan is the free one: no
tags, comments of 100 letters. Not modelled: other record types, settings of a record, the nameservers' own records,
propagation time, token scopes, batches, search.
"""

import ipaddress
import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, ClassVar

from rehearsal.emulators.api import Api, ApiError, Json, NotModelled, Request, Response, Route, only, route

_FIELDS = ("name", "type", "content", "ttl", "proxied", "comment", "tags", "settings")
_STORED = ("name", "type", "content", "ttl", "proxied", "comment")
_LONGEST_COMMENT = 100
_FILTERS = {
    "name": "name",
    "name.exact": "name",
    "type": "type",
    "content": "content",
    "content.exact": "content",
}
_LABEL = r"(\*|[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@dataclass(frozen=True, kw_only=True)
class Record:
    id: str
    zone_id: str
    name: str
    type: str
    content: str
    ttl: int = 1
    proxied: bool = False
    comment: str | None = None
    created_on: str = field(default_factory=_now)
    modified_on: str = field(default_factory=_now)


class Cloudflare(Api):
    # The official clients resolve their paths relative to this, so the slash at the end counts.
    prefix = "/client/v4/"
    codes: ClassVar = {400: 6007, 401: 10000, 500: 10013, 501: 7000}
    # cloudflare-go and the Python client would otherwise retry every 5xx for minutes.
    error_headers: ClassVar = {"x-should-retry": "false"}

    def __init__(
        self,
        zones: Mapping[str, str],
        token: str,
        on_change: Callable[[Sequence[Record]], None] = lambda records: None,
    ) -> None:
        """`zones` gives the id of each zone by its name."""
        super().__init__(token)
        self.zones = dict(zones)
        self.records: dict[str, Record] = {}
        self._on_change = on_change

    def leftovers(self) -> list[str]:
        """Every record that is still there."""
        with self.lock:
            return [f"{record.type} {record.name}" for record in self.records.values()]

    def add(self, zone: str, **fields: str) -> None:
        """Make a record as a person does in the dashboard."""
        with self.lock:
            self._write(
                Record(id=secrets.token_hex(16), zone_id=self.zones[zone], name="", type="", content=""), fields
            )

    def remove(self, id: str) -> None:
        """Delete a record as a person does in the dashboard."""
        with self.lock:
            self.delete(Request(), self.records[id].zone_id, id)

    def error_body(self, error: ApiError, code: str | int) -> Json:
        errors = [{"code": code, "message": error.message}]
        return {"success": False, "errors": errors, "messages": [], "result": None}

    def routes(self) -> Sequence[Route]:
        records, record = "/zones/{zone}/dns_records", "/zones/{zone}/dns_records/{id}"
        return [
            route("GET", "/zones", self.list_zones),
            route("GET", "/zones/{zone}", self.get_zone),
            route("GET", records, self.list_records),
            route("POST", records, self.create),
            route("GET", record, self.get),
            route("PUT", record, self.overwrite),
            route("PATCH", record, self.edit),
            route("DELETE", record, self.delete),
        ]

    def list_zones(self, request: Request) -> Response:
        only(request.query, ("name", "match", "status", "page", "per_page"), "filter")
        # Of two filters, `match` says whether one is enough.
        if request.query.get("match", ["all"]) not in (["all"], ["any"]):
            raise ApiError(400, "Invalid match.", 6003)
        names = request.query.get("name", self.zones)
        of_status = request.query.get("status", ["active"]) == ["active"]
        zones = [_zone(name, id) for name, id in self.zones.items() if name in names and of_status]
        return _page(request, zones, default=20)

    def get_zone(self, request: Request, zone: str) -> Response:
        return _ok(_zone(self._zone_name(zone), zone))

    def list_records(self, request: Request, zone: str) -> Response:
        self._zone_name(zone)
        only(
            request.query,
            ("name", "name.exact", "type", "content", "content.exact", "match", "page", "per_page"),
            "filter",
        )
        matches = [record for record in self.records.values() if record.zone_id == zone]
        for key, values in request.query.items():
            attribute = key.removesuffix(".exact")
            if attribute in ("name", "type", "content"):
                matches = [record for record in matches if getattr(record, attribute) in values]
        return _page(request, [_shape(record) for record in matches], default=100)

    def get(self, request: Request, zone: str, id: str) -> Response:
        return _ok(_shape(self._find(zone, id)))

    def create(self, request: Request, zone: str) -> Response:
        return self._write(Record(id=secrets.token_hex(16), zone_id=zone, name="", type="", content=""), request.body)

    def overwrite(self, request: Request, zone: str, id: str) -> Response:
        """Replace the record; fields that the body leaves out get their defaults."""
        old = self._find(zone, id)
        fresh = Record(id=id, zone_id=zone, name="", type="", content="", created_on=old.created_on)
        return self._write(fresh, request.body)

    def edit(self, request: Request, zone: str, id: str) -> Response:
        return self._write(self._find(zone, id), request.body)

    def delete(self, request: Request, zone: str, id: str) -> Response:
        del self.records[self._find(zone, id).id]
        self._on_change(list(self.records.values()))
        return _ok({"id": id})

    def _zone_name(self, id: str) -> str:
        for name, own_id in self.zones.items():
            if own_id == id:
                return name
        raise ApiError(404, f"Could not route to /zones/{id}, perhaps your object identifier is invalid?", 7003)

    def _find(self, zone: str, id: str) -> Record:
        self._zone_name(zone)
        record = self.records.get(id)
        if record is None or record.zone_id != zone:
            raise ApiError(404, "Record does not exist.", 81044)
        return record

    def _write(self, record: Record, body: Mapping[str, Any]) -> Response:
        zone = self._zone_name(record.zone_id)
        only(body, _FIELDS, "field")
        _require_what_is_free(body)
        stored = {key: value for key, value in body.items() if key in _STORED and value is not None}
        record = _canonical(replace(record, **stored, modified_on=_now()), zone)
        self._require_no_conflict(record)
        self.records[record.id] = record
        self._on_change(list(self.records.values()))
        return _ok(_shape(record))

    def _require_no_conflict(self, record: Record) -> None:
        same_name = [r for r in self.records.values() if r.name == record.name and r.id != record.id]
        if any((r.type, r.content) == (record.type, record.content) for r in same_name):
            raise ApiError(400, "An identical record already exists.", 81058)
        addresses = {"A", "AAAA", "CNAME"}
        types = addresses & {r.type for r in same_name}
        if "CNAME" in types | {record.type} and types and record.type in addresses:
            raise ApiError(400, "An A, AAAA, or CNAME record with that host already exists.", 81053)


def _require_what_is_free(body: Mapping[str, Any]) -> None:
    if tags := body.get("tags"):
        raise ApiError(400, f"DNS record has {len(tags)} tags, exceeding the quota of 0.", 9300)
    if len(body.get("comment") or "") > _LONGEST_COMMENT:
        raise ApiError(400, f"DNS record comment is longer than {_LONGEST_COMMENT} characters.", 9301)
    if any((body.get("settings") or {}).values()):
        raise NotModelled("settings of a record")


def _canonical(record: Record, zone: str) -> Record:
    """The record as Cloudflare stores it: full lower-case name, shortest content, ttl 1 when proxied."""
    if not isinstance(record.proxied, bool):
        raise ApiError(400, f"proxied must be true or false, not {record.proxied!r}.", 1003)
    content = _content(record.type, record.content)
    if record.proxied and record.type == "TXT":
        raise ApiError(400, "This record type cannot be proxied.", 9004)
    ttl = _ttl(record.ttl)
    return replace(record, name=_name(record.name, zone), content=content, ttl=1 if record.proxied else ttl)


def _name(name: object, zone: str) -> str:
    text = str(name).lower().removesuffix(".")
    full = zone if text in ("@", zone) else text if text.endswith(f".{zone}") else f"{text}.{zone}"
    if not name or len(full) > 255 or not re.fullmatch(rf"{_LABEL}(\.{_LABEL})*", full):
        raise ApiError(400, f"DNS name {name!r} is invalid.", 9000)
    return full


def _content(type: str, content: object) -> str:
    match type:
        case "A":
            return _address(content, ipaddress.IPv4Address, "A", 9005)
        case "AAAA":
            return _address(content, ipaddress.IPv6Address, "AAAA", 9006)
        case "CNAME":
            target = str(content).lower().removesuffix(".")
            if not re.fullmatch(rf"{_LABEL}(\.{_LABEL})+", target):
                raise ApiError(400, "Content for CNAME record is invalid.", 9007)
            return target
        case "TXT" if content:
            return str(content)
        case "TXT":
            raise ApiError(400, "Content for TXT record must not be empty.", 9009)
    raise NotModelled(f"record type {type!r}")


def _address(content: object, kind: type, type: str, code: int) -> str:
    try:
        return str(kind(str(content)))
    except ValueError as error:
        message = f"Content for {type} record must be a valid {kind.__name__[:4]} address."
        raise ApiError(400, message, code) from error


def _ttl(ttl: Any) -> int:
    whole = isinstance(ttl, int | float) and not isinstance(ttl, bool) and ttl == int(ttl)
    if not whole or not (ttl == 1 or 60 <= ttl <= 86400):
        message = "Invalid TTL. Must be between 60 and 86400 seconds, or 1 for Automatic."
        raise ApiError(400, message, 9021)
    return int(ttl)


def _shape(record: Record) -> Json:
    proxiable = {"proxiable": record.type != "TXT"}
    shape = asdict(record) | proxiable | {"settings": {}, "meta": {}, "tags": []}
    del shape["zone_id"]
    return shape


def _zone(name: str, id: str) -> Json:
    return {
        "id": id,
        "name": name,
        "status": "active",
        "paused": False,
        "type": "full",
        "development_mode": 0,
        "name_servers": ["ada.ns.cloudflare.com", "bob.ns.cloudflare.com"],
        "original_name_servers": [],
        "original_registrar": None,
        "original_dnshost": None,
        "created_on": "2026-01-01T00:00:00.000000Z",
        "modified_on": "2026-01-01T00:00:00.000000Z",
        "activated_on": "2026-01-01T00:00:00.000000Z",
        "account": {"id": "0" * 32, "name": "rehearsal"},
        "owner": {"id": None, "type": "user", "email": None},
        "permissions": ["#dns_records:edit", "#dns_records:read", "#zone:read"],
        "plan": {"id": "0" * 32, "name": "Free Website"},
        "meta": {},
    }


def _ok(result: object, **more: object) -> Response:
    return Response({"success": True, "errors": [], "messages": [], "result": result, **more})


def _page(request: Request, rows: Iterable[Json], *, default: int) -> Response:
    rows = list(rows)
    number, size = (int(request.query.get(k, [d])[0]) for k, d in (("page", 1), ("per_page", default)))
    part = rows[(number - 1) * size : number * size]
    info = {
        "page": number,
        "per_page": size,
        "count": len(part),
        "total_count": len(rows),
        "total_pages": -(-len(rows) // size),
    }
    return _ok(part, result_info=info)
