"""A stand-in for version 6.23.1 of the official Cloudflare provider: DNS records and the look-up of zones.

Values come back as the API gives them, so that a short name or an address in an unusual spelling differs for
ever, as it did with official versions; newer ones take a short name for the full one after a refresh. What the API
refuses of a record - a TTL, proxying - shows when it is created, as there. Not modelled: API keys, shadow metadata,
everything else.
"""

import asyncio
import json
import os
from typing import Any
from urllib.parse import urlencode

from pulumi.provider.experimental import provider as p

from rehearsal.plugins import VERSIONS
from rehearsal.plugins.cloudflare_api import CloudflareApi, CloudflareError, camel, snake
from rehearsal.plugins.serve import Failure, Log, serve
from rehearsal.plugins.values import UNKNOWN, Properties, own_type, plain, wrap

TYPE = "cloudflare:index/dnsRecord:DnsRecord"
DEFAULT_URL = "https://api.cloudflare.com/client/v4/"
REQUIRED = {"name", "ttl", "type", "zoneId"}
SENT = ("comment", "content", "data", "name", "priority", "proxied", "settings", "tags", "ttl", "type")
CHOSEN = {"settings", "tags"}
COMPUTED = ("commentModifiedOn", "createdOn", "meta", "modifiedOn", "proxiable", "tagsModifiedOn")
REPLACING = {"type", "zoneId"}
# Inputs that the API does not choose itself get these values when the program leaves them out again.
UNSAID = {"comment": None, "data": None, "priority": None, "proxied": False}


class CloudflareProvider(p.Provider):
    def __init__(self, log: Log) -> None:
        self._api, self._log = CloudflareApi(DEFAULT_URL, ""), log

    async def check_config(self, request: p.CheckRequest) -> p.CheckResponse:
        inputs = request.new_inputs
        return p.CheckResponse(inputs | {key: inputs[key].with_secret(True) for key in inputs.keys() & {"apiToken"}})

    async def configure(self, request: p.ConfigureRequest) -> p.ConfigureResponse:
        token = plain(request.args.get("apiToken")) or os.environ.get("CLOUDFLARE_API_TOKEN")
        url = plain(request.args.get("baseUrl")) or os.environ.get("CLOUDFLARE_BASE_URL") or DEFAULT_URL
        if not token:
            raise Failure("no Cloudflare credentials: set cloudflare:apiToken or CLOUDFLARE_API_TOKEN")
        self._api = CloudflareApi(url, token)
        return p.ConfigureResponse(accept_secrets=True, supports_preview=True)

    async def invoke(self, request: p.InvokeRequest) -> p.InvokeResponse:
        args = {key: plain(value) for key, value in request.args.items() if value.value is not None}
        match request.tok:
            case "cloudflare:index/getZone:getZone":
                answer = await self._zone(args)
            case "cloudflare:index/getZones:getZones":
                answer = {"match": "all"} | args | {"results": camel(await self._zones(args))}
            case "cloudflare:index/getDnsRecords:getDnsRecords":
                answer = args | {"results": await self._found_records(args)}
            case other:
                raise Failure(_absent(other))
        return p.InvokeResponse({key: wrap(value) for key, value in answer.items()})

    async def check(self, request: p.CheckRequest) -> p.CheckResponse:
        if (kind := own_type(request.urn)) != TYPE:
            raise Failure(_absent(kind))
        inputs = {key: value for key, value in request.new_inputs.items() if value.value is not None}
        return p.CheckResponse(inputs, [p.CheckFailure(key, reason) for key, reason in _mistakes(inputs)])

    async def diff(self, request: p.DiffRequest) -> p.DiffResponse:
        changed = _changed(request.old_state, _ignoring(request.old_state, request.new_inputs, request.ignore_changes))
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
        former = request.properties or {"zoneId": wrap(zone)}
        try:
            state = _state(await self._call("GET", f"{_records(former)}/{record_id}"), former)
        except CloudflareError as error:
            if error.status == 404:
                self._log(f"the record {record_id} is gone: {error}", urn=request.urn, severity="WARNING")
                return p.ReadResponse()
            raise
        asked = request.inputs or {key: value for key, value in state.items() if key in (*SENT, "zoneId")}
        return p.ReadResponse(record_id, state, {key: state.get(key, value) for key, value in asked.items()})

    async def update(self, request: p.UpdateRequest) -> p.UpdateResponse:
        news = _ignoring(request.olds, request.news, request.ignore_changes)
        if request.preview:
            return p.UpdateResponse(request.olds | {"modifiedOn": UNKNOWN} | news)
        # The official one also sends what the API chose itself, and that nobody wrote a comment.
        chosen = {"comment": None} | _body({key: request.olds[key] for key in CHOSEN & request.olds.keys()})
        record = await self._call("PUT", f"{_records(news)}/{request.resource_id}", chosen | _body(news))
        return p.UpdateResponse(_state(record, news))

    async def delete(self, request: p.DeleteRequest) -> None:
        await self._call("DELETE", f"{_records(request.properties)}/{request.resource_id}")

    async def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        return await asyncio.to_thread(self._api.call, method, path, body)

    async def _zones(self, conditions: dict[str, Any]) -> list[dict[str, Any]]:
        query = {key: value for key, value in snake(conditions).items() if isinstance(value, str)}
        zones: list[dict[str, Any]] = await self._call("GET", f"zones?{urlencode(query)}")
        return zones

    async def _found_records(self, args: dict[str, Any]) -> list[dict[str, Any]]:
        filters = {f"name.{how}": text for how, text in (args.get("name") or {}).items()}
        query = urlencode({"match": "all"} | filters)
        records: list[dict[str, Any]] = camel(await self._call("GET", f"zones/{args['zoneId']}/dns_records?{query}"))
        return records

    async def _zone(self, args: dict[str, Any]) -> dict[str, Any]:
        expected = {"match": "all"} | args.get("filter", {})
        zone_id = args.get("zoneId") or await self._zone_id(expected)
        zone: dict[str, Any] = camel(await self._call("GET", f"zones/{zone_id}"))
        return zone | {"zoneId": zone_id, "filter": expected}

    async def _zone_id(self, conditions: dict[str, Any]) -> str:
        answer = await self._zones({key: value for key, value in conditions.items() if value is not None})
        if len(answer) != 1:
            raise Failure(f"failed to find exactly one zone for {json.dumps(conditions)}: {len(answer)} found")
        return str(answer[0]["id"])


def _absent(token: str) -> str:
    functions = "getZone, getZones and getDnsRecords"
    return f"{token} is not in this stand-in for the Cloudflare provider: it has {TYPE}, {functions}"


def _records(properties: Properties) -> str:
    return f"zones/{plain(properties['zoneId'])}/dns_records"


def _body(inputs: Properties) -> dict[str, Any]:
    body: dict[str, Any] = snake({key: plain(inputs[key]) for key in SENT if key in inputs})
    return body


def _state(record: dict[str, Any], former: Properties) -> Properties:
    """The record as the SDK expects it, secret where the program's values were."""
    values = camel(record) | {"meta": json.dumps(record.get("meta") or {}), "zoneId": plain(former["zoneId"])}
    state = {key: wrap(value) for key, value in values.items() if value is not None and key != "id"}
    return {key: value.with_secret(key in former and former[key].is_secret) for key, value in state.items()}


def _mistakes(inputs: Properties) -> list[tuple[str, str]]:
    return [(key, f"Missing required property '{key}'") for key in sorted(REQUIRED - inputs.keys())]


def _ignoring(olds: Properties, news: Properties, ignored: list[str]) -> Properties:
    """The inputs with the former values of what is not to be changed."""
    others = {key: value for key, value in news.items() if key not in ignored}
    return others | {key: olds[key] for key in ignored if key in olds}


def _changed(olds: Properties, news: Properties) -> list[str]:
    differing = [key for key in (*SENT, "zoneId") if key in news and plain(olds.get(key)) != plain(news[key])]
    dropped = [key for key, unsaid in UNSAID.items() if key not in news and plain(olds.get(key)) not in (None, unsaid)]
    return sorted(differing + dropped)


if __name__ == "__main__":
    serve(VERSIONS["cloudflare"], CloudflareProvider)
