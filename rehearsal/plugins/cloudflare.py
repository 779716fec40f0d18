"""A stand-in for version 6.23.1 of the official Cloudflare provider: DNS records and the look-up of zones.

Values come back as the API gives them, so that a short name or an address in an unusual spelling differs for
ever, as it did with official versions. Not modelled: API keys, shadow metadata, everything else.
"""

import asyncio
import json
import os
from typing import Any
from urllib.parse import urlencode

from pulumi.provider.experimental import provider as p

from rehearsal.plugins import VERSIONS
from rehearsal.plugins.cloudflare_api import Api, ApiError, camel, snake
from rehearsal.plugins.serve import Failure, Log, serve
from rehearsal.plugins.values import UNKNOWN, Properties, is_unknown, own_type, plain, wrap

TYPE = "cloudflare:index/dnsRecord:DnsRecord"
DEFAULT_URL = "https://api.cloudflare.com/client/v4/"
REQUIRED = {"name", "ttl", "type", "zoneId"}
SENT = ("comment", "content", "data", "name", "priority", "proxied", "settings", "tags", "ttl", "type")
COMPUTED = ("commentModifiedOn", "createdOn", "meta", "modifiedOn", "proxiable", "tagsModifiedOn")
REPLACING = {"type", "zoneId"}
# What the API does not choose itself goes back to this when the program stops saying it.
UNSAID = {"comment": None, "data": None, "priority": None, "proxied": False}


class CloudflareProvider(p.Provider):
    def __init__(self, log: Log) -> None:
        self._api = Api(DEFAULT_URL, "")

    async def check_config(self, request: p.CheckRequest) -> p.CheckResponse:
        inputs = request.new_inputs
        return p.CheckResponse(inputs | {key: inputs[key].with_secret(True) for key in inputs.keys() & {"apiToken"}})

    async def configure(self, request: p.ConfigureRequest) -> p.ConfigureResponse:
        token = plain(request.args.get("apiToken")) or os.environ.get("CLOUDFLARE_API_TOKEN")
        url = plain(request.args.get("baseUrl")) or os.environ.get("CLOUDFLARE_BASE_URL") or DEFAULT_URL
        if not token:
            raise Failure("no Cloudflare credentials: set cloudflare:apiToken or CLOUDFLARE_API_TOKEN")
        self._api = Api(url, token)
        return p.ConfigureResponse(accept_secrets=True, supports_preview=True)

    async def invoke(self, request: p.InvokeRequest) -> p.InvokeResponse:
        args = {key: plain(value) for key, value in request.args.items() if value.value is not None}
        match request.tok:
            case "cloudflare:index/getZone:getZone":
                found = await self._zone(args)
            case "cloudflare:index/getZones:getZones":
                found = {"match": "all"} | args | {"results": camel(await self._zones(args))}
            case other:
                raise Failure(_absent(other))
        return p.InvokeResponse({key: wrap(value) for key, value in found.items()})

    async def check(self, request: p.CheckRequest) -> p.CheckResponse:
        if (kind := own_type(request.urn)) != TYPE:
            raise Failure(_absent(kind))
        inputs = {key: value for key, value in request.new_inputs.items() if value.value is not None}
        return p.CheckResponse(inputs, [p.CheckFailure(key, reason) for key, reason in _mistakes(inputs)])

    async def diff(self, request: p.DiffRequest) -> p.DiffResponse:
        changed = _changed(request.old_state, request.new_inputs)
        kinds = {key: "UPDATE_REPLACE" if key in REPLACING else "UPDATE" for key in changed}
        return p.DiffResponse(
            changes=bool(changed),
            replaces=[key for key in changed if key in REPLACING],
            diffs=changed,
            detailed_diff={key: p.PropertyDiff(p.PropertyDiffKind[kind], True) for key, kind in kinds.items()},
        )

    async def create(self, request: p.CreateRequest) -> p.CreateResponse:
        news = request.properties
        if request.preview:
            unknown = {key: UNKNOWN for key in (*COMPUTED, "settings", "tags")}
            return p.CreateResponse("", unknown | {"proxied": wrap(False)} | news)
        record = await self._call("POST", _records(news), _body(news))
        return p.CreateResponse(record["id"], _state(record, news))

    async def read(self, request: p.ReadRequest) -> p.ReadResponse:
        # An import names the record "zone/record".
        zone, _, record_id = request.resource_id.rpartition("/")
        known = request.properties or {"zoneId": wrap(zone)}
        try:
            state = _state(await self._call("GET", f"{_records(known)}/{record_id}"), known)
        except ApiError as error:
            if error.status == 404:
                return p.ReadResponse()
            raise
        asked = request.inputs or {key: value for key, value in state.items() if key in (*SENT, "zoneId")}
        return p.ReadResponse(record_id, state, {key: state.get(key, value) for key, value in asked.items()})

    async def update(self, request: p.UpdateRequest) -> p.UpdateResponse:
        news = request.news
        if request.preview:
            return p.UpdateResponse(request.olds | {"modifiedOn": UNKNOWN} | news)
        record = await self._call("PUT", f"{_records(news)}/{request.resource_id}", _body(news))
        return p.UpdateResponse(_state(record, news))

    async def delete(self, request: p.DeleteRequest) -> None:
        await self._call("DELETE", f"{_records(request.properties)}/{request.resource_id}")

    async def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        return await asyncio.to_thread(self._api.call, method, path, body)

    async def _zones(self, wanted: dict[str, Any]) -> list[dict[str, Any]]:
        query = {key: value for key, value in snake(wanted).items() if isinstance(value, str) and value != "all"}
        zones: list[dict[str, Any]] = await self._call("GET", f"zones?{urlencode(query)}")
        return zones

    async def _zone(self, args: dict[str, Any]) -> dict[str, Any]:
        wanted = {"match": "all"} | args.get("filter", {})
        zone_id = args.get("zoneId") or await self._zone_id(wanted)
        zone: dict[str, Any] = camel(await self._call("GET", f"zones/{zone_id}"))
        return zone | {"zoneId": zone_id, "filter": wanted}

    async def _zone_id(self, wanted: dict[str, Any]) -> str:
        found = await self._zones({key: value for key, value in wanted.items() if value is not None})
        if len(found) != 1:
            raise Failure(f"failed to find exactly one zone for {json.dumps(wanted)}: {len(found)} found")
        return str(found[0]["id"])


def _absent(token: str) -> str:
    return f"{token} is not in this stand-in for the Cloudflare provider: it has {TYPE}, getZone and getZones"


def _records(properties: Properties) -> str:
    return f"zones/{plain(properties['zoneId'])}/dns_records"


def _body(inputs: Properties) -> dict[str, Any]:
    body: dict[str, Any] = snake({key: plain(inputs[key]) for key in SENT if key in inputs})
    return body


def _state(record: dict[str, Any], known: Properties) -> Properties:
    """The record as the SDK expects it, secret where the program's values were."""
    values = camel(record) | {"meta": json.dumps(record.get("meta") or {}), "zoneId": plain(known["zoneId"])}
    state = {key: wrap(value) for key, value in values.items() if value is not None and key != "id"}
    return {key: value.with_secret(key in known and known[key].is_secret) for key, value in state.items()}


def _mistakes(inputs: Properties) -> list[tuple[str, str]]:
    found = [(key, f"Missing required property '{key}'") for key in sorted(REQUIRED - inputs.keys())]
    ttl, proxied = inputs.get("ttl"), plain(inputs.get("proxied"))
    if ttl is None or is_unknown(ttl):
        return found
    seconds = plain(ttl)
    if seconds != 1 and not 30 <= seconds <= 86400:
        found.append(("ttl", f"{seconds:g} is neither 1 (automatic) nor between 30 and 86400"))
    if proxied is True and seconds != 1:
        found.append(("ttl", f"{seconds:g} is given, but a proxied record's ttl must be 1"))
    return found


def _changed(olds: Properties, news: Properties) -> list[str]:
    said = [key for key in (*SENT, "zoneId") if key in news and plain(olds.get(key)) != plain(news[key])]
    dropped = [key for key, unsaid in UNSAID.items() if key not in news and plain(olds.get(key)) not in (None, unsaid)]
    return sorted(said + dropped)


if __name__ == "__main__":
    serve(VERSIONS["cloudflare"], CloudflareProvider)
