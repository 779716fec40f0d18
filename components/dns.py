"""The names, at Cloudflare."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi

from . import cloudflare


@dataclass(frozen=True)
class DnsRecordsArgs:
    """`zone` is the name of a zone that the token can read and edit; the names are full names in it."""

    zone: str
    headscale_name: str
    ui_name: str
    ipv4: pulumi.Input[str]
    ipv6: pulumi.Input[str]


class DnsRecords(pulumi.ComponentResource):
    """Both names lead to the server; whoever uses the outputs can rely on that."""

    Args = DnsRecordsArgs
    headscale_name: pulumi.Output[str]
    ui_name: pulumi.Output[str]

    def __init__(self, name: str, args: DnsRecordsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("headscale:index:DnsRecords", name, None, opts)
        self._name = name
        zone = cloudflare.get_zone_output(
            filter={"name": args.zone, "match": "all"}, opts=pulumi.InvokeOptions(parent=self)
        )
        records = {
            role: [
                self._record(role, fqdn, zone.zone_id, "A", args.ipv4),
                self._record(role, fqdn, zone.zone_id, "AAAA", args.ipv6),
            ]
            for role, fqdn in (("headscale", args.headscale_name), ("ui", args.ui_name))
        }
        self.headscale_name = _name_of(records["headscale"])
        self.ui_name = _name_of(records["ui"])
        self.register_outputs({"headscaleName": self.headscale_name, "uiName": self.ui_name})

    def _record(
        self, role: str, fqdn: str, zone_id: pulumi.Input[str], kind: str, address: pulumi.Input[str]
    ) -> cloudflare.DnsRecord:
        return cloudflare.DnsRecord(
            f"{self._name}-{role}-{kind.lower()}",
            zone_id=zone_id,
            name=fqdn,
            type=kind,
            content=address,
            ttl=60,
            # Cloudflare's proxy does not pass the Upgrade that Tailscale's protocol begins with.
            proxied=False,
            opts=pulumi.ResourceOptions(parent=self),
        )


def _name_of(records: Sequence[cloudflare.DnsRecord]) -> pulumi.Output[str]:
    return pulumi.Output.all(*(record.name for record in records)).apply(lambda names: names[0])
