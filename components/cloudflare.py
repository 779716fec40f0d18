"""The part of Cloudflare's provider that the program uses, named as in pulumi_cloudflare: a resource, look-ups.

`import pulumi_cloudflare` runs 780 modules and takes longer than all the rest of a preview. Loading two of them does
not help: each loads the types of all the others. They send the provider's schema - a type token, the names of
properties, a version -, which is written here in pulumi's own terms. Type checkers see pulumi_cloudflare itself
(dns.py). Not here: records whose content is not text, and references to records, which this program never receives.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import pulumi

VERSION = version("pulumi-cloudflare")
SCHEMA = "6."

if not VERSION.startswith(SCHEMA):
    raise ImportError(
        f"components/cloudflare.py speaks the schema of pulumi-cloudflare {SCHEMA}x and {VERSION} is installed: "
        "import pulumi_cloudflare in components/dns.py instead, or compare cloudflare:index/dnsRecord:DnsRecord "
        "and cloudflare:index/getZone:getZone in its schema and raise SCHEMA"
    )


class DnsRecord(pulumi.CustomResource):
    name: pulumi.Output[str]

    def __init__(
        self,
        resource_name: str,
        opts: pulumi.ResourceOptions | None = None,
        *,
        zone_id: pulumi.Input[str],
        name: pulumi.Input[str],
        type: pulumi.Input[str],
        content: pulumi.Input[str],
        ttl: pulumi.Input[float],
        proxied: pulumi.Input[bool],
    ) -> None:
        inputs = {"zoneId": zone_id, "name": name, "type": type, "content": content, "ttl": ttl, "proxied": proxied}
        opts = pulumi.ResourceOptions.merge(pulumi.ResourceOptions(version=VERSION), opts)
        super().__init__("cloudflare:index/dnsRecord:DnsRecord", resource_name, inputs, opts)


@dataclass(frozen=True)
class GetZoneResult:
    zone_id: str


def get_zone_output(
    filter: Mapping[str, pulumi.Input[str]], opts: pulumi.InvokeOptions | None = None
) -> pulumi.Output[GetZoneResult]:
    opts = pulumi.InvokeOptions.merge(pulumi.InvokeOptions(version=VERSION), opts)
    result = pulumi.runtime.invoke_output("cloudflare:index/getZone:getZone", {"filter": filter}, opts)
    return result.apply(lambda zone: GetZoneResult(zone["zoneId"]))


@dataclass(frozen=True)
class FoundRecord:
    """A record of a zone: its id, full name, type and content."""

    id: str
    name: str
    type: str
    content: str


@dataclass(frozen=True)
class GetDnsRecordsResult:
    results: Sequence[FoundRecord]


def get_dns_records_output(
    zone_id: pulumi.Input[str], name: Mapping[str, pulumi.Input[str]], opts: pulumi.InvokeOptions | None = None
) -> pulumi.Output[GetDnsRecordsResult]:
    opts = pulumi.InvokeOptions.merge(pulumi.InvokeOptions(version=VERSION), opts)
    arguments = {"zoneId": zone_id, "name": name}
    listed = pulumi.runtime.invoke_output("cloudflare:index/getDnsRecords:getDnsRecords", arguments, opts)
    return listed.apply(lambda answer: GetDnsRecordsResult([_record(record) for record in answer["results"]]))


def _record(record: Mapping[str, Any]) -> FoundRecord:
    return FoundRecord(**{key: record[key] for key in ("id", "name", "type", "content")})
