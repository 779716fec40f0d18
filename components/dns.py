"""The DNS records of the names, at Cloudflare."""

from dataclasses import dataclass
from typing import Any

import pulumi

import tokens

from . import cloudflare
from .look_up import answer
from .names import Names

# Types of records that resolve to a server.
LEADING = ("A", "AAAA", "CNAME")


@dataclass(frozen=True)
class DnsRecordsArgs:
    """`zone` is the name of a zone that the token can read and edit; the names are in it, former ones in their own."""

    zone: str
    names: Names
    ipv4: pulumi.Input[str]
    ipv6: pulumi.Input[str]


class DnsRecords(pulumi.ComponentResource):
    """All names resolve to the server; resources that use the output, shaped like nix/deployment.json, rely on it."""

    Args = DnsRecordsArgs
    names: pulumi.Output[dict[str, Any]]

    def __init__(self, name: str, args: DnsRecordsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("headscale:index:DnsRecords", name, None, opts)
        self._name, self._args = name, args
        names = args.names
        zones = {zone: self._zone_id(zone) for zone in (args.zone, *(former.zone for former in names.former))}
        # In older stacks, without former names, the records are named by their role.
        roles = ["headscale", *("" for _ in names.former)]
        of_headscale = zip([*names.former, (names.headscale, args.zone)], roles, strict=True)
        records = [
            *(record for (fqdn, zone), role in of_headscale for record in self._records(fqdn, zones[zone], role)),
            *self._records(names.ui, zones[args.zone], "ui"),
        ]
        self.names = pulumi.Output.all(*(record.name for record in records)).apply(lambda _: names.data())
        self.register_outputs({"headscaleName": names.headscale, "uiName": names.ui})

    def _zone_id(self, zone: str) -> pulumi.Output[str]:
        look_up = cloudflare.get_zone_output(
            filter={"name": zone, "match": "all"}, opts=pulumi.InvokeOptions(parent=self)
        )
        return answer(look_up.zone_id, f"asking Cloudflare for the zone {zone}", tokens.CLOUDFLARE.format(zone=zone))

    def _records(self, fqdn: str, zone_id: pulumi.Output[str], role: str) -> list[cloudflare.DnsRecord]:
        """The records of both families; `role` is their name in older stacks."""
        addresses = {"A": self._args.ipv4, "AAAA": self._args.ipv6}
        records = [self._record(fqdn, zone_id, kind, address, role) for kind, address in addresses.items()]
        if pulumi.runtime.is_dry_run():
            warnings: pulumi.Output[list[str]] = pulumi.Output.from_input(self._others(fqdn, zone_id, records))
            warnings.apply(self._warn)
        return records

    async def _others(self, fqdn: str, zone_id: pulumi.Output[str], records: list[cloudflare.DnsRecord]) -> list[str]:
        """Warnings of records at this name that are not in the state."""
        opts = pulumi.InvokeOptions(parent=self)
        listed = answer(
            cloudflare.get_dns_records_output(zone_id=zone_id, name={"exact": fqdn}, opts=opts).results,
            f"asking Cloudflare for the records of {fqdn}",
            tokens.CLOUDFLARE.format(zone=self._args.zone),
        )
        zone = await zone_id.future()
        in_state = [await record.id.future() for record in records if await record.id.is_known()]
        others = await listed.future() or []
        return [_how_to_delete(zone, other) for other in others if other.type in LEADING and other.id not in in_state]

    def _warn(self, warnings: list[str]) -> None:
        for warning in warnings:
            pulumi.log.warn(warning, self)

    def _record(
        self, fqdn: str, zone_id: pulumi.Input[str], kind: str, address: pulumi.Input[str], role: str
    ) -> cloudflare.DnsRecord:
        former = [pulumi.Alias(name=f"{self._name}-{role}-{kind.lower()}")] if role else []
        return cloudflare.DnsRecord(
            # Named by the DNS name, so that a name that becomes a former one keeps its records.
            f"{self._name}-{fqdn}-{kind.lower()}",
            zone_id=zone_id,
            name=fqdn,
            type=kind,
            content=address,
            ttl=60,
            # Cloudflare's proxy does not pass the Upgrade header that Tailscale's protocol begins with.
            proxied=False,
            # Notes that a person adds to a record stay.
            opts=pulumi.ResourceOptions(parent=self, aliases=former, ignore_changes=["comment", "tags", "settings"]),
        )


def _how_to_delete(zone: str | None, record: Any) -> str:
    url = f"https://api.cloudflare.com/client/v4/zones/{zone}/dns_records/{record.id}"
    return (
        f"Cloudflare has a record {record.name} {record.type} {record.content} (id {record.id}) that this stack does "
        "not know. A device that resolves it does not find headscale, and `pulumi up` cannot create the same record. "
        "An interrupted `up` leaves such a record, too. "
        f'`curl -X DELETE -H "Authorization: Bearer $CLOUDFLARE_API_TOKEN" {url}` deletes it'
    )
