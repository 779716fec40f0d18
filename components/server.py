"""The Hetzner server, its firewall and the addresses that outlive it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

import pulumi
import pulumi_hcloud as hcloud
from pulumi_command import remote

from .ending import Refusal
from .rotation import accepted_keys

ANYONE = ("0.0.0.0/0", "::/0")


@dataclass(frozen=True, kw_only=True)
class ServerArgs:
    """`deploy_key` and `host_key` are key pairs: the private half, secret, and the public line.

    Of the former keys, which a server may still have, only the halves that open a connection are needed.
    """

    name: str
    server_type: str
    location: str
    admin_networks: Sequence[IPv4Network | IPv6Network]
    admin_networks_exclude_me: bool
    deploy_key: tuple[pulumi.Output[str], str]
    host_key: tuple[pulumi.Output[str], str]
    former_deploy_key: pulumi.Output[str] | None = None
    former_host_key: str | None = None
    protect: bool


class Server(pulumi.ComponentResource):
    """A Debian server at addresses that outlive it, whose SSH host key is known before it boots.

    `connection` has the configured keys, `deploy_key` and `host_key`; `connection_now` those that the server takes,
    which may be the former ones.
    """

    Args = ServerArgs
    server_id: pulumi.Output[str]
    ipv4: pulumi.Output[str]
    ipv6: pulumi.Output[str]
    connection: remote.ConnectionArgs
    connection_now: remote.ConnectionArgs
    deploy_key: tuple[pulumi.Output[str], str]
    host_key: tuple[pulumi.Output[str], str]
    admin_networks: Sequence[IPv4Network | IPv6Network]

    def __init__(self, name: str, args: ServerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("headscale:index:Server", name, None, opts)
        self._args = args
        ipv4, ipv6 = self._primary_ip(f"{name}-ipv4", "ipv4"), self._primary_ip(f"{name}-ipv6", "ipv6")
        server = self._server(
            f"{name}-server",
            ssh_keys=[self._ssh_key(f"{name}-ssh-key").id],
            firewall_ids=[self._firewall(f"{name}-firewall").id.apply(int)],
            public_nets=[{"ipv4": ipv4.id.apply(int), "ipv6": ipv6.id.apply(int)}],
        )
        self.deploy_key, self.host_key = args.deploy_key, args.host_key
        self.admin_networks = args.admin_networks
        self.server_id = server.id
        server.status.apply(self._refuse_off)
        self.ipv4 = ipv4.ip_address
        self.ipv6 = ipv6.ip_network.apply(host_address)
        self.connection = _connection(server.ipv4_address, args.deploy_key[0], args.host_key[1])
        self.connection_now = self._connection_now(server.ipv4_address)
        self.register_outputs({"serverId": self.server_id, "ipv4": self.ipv4, "ipv6": self.ipv6})

    def _refuse_off(self, status: str) -> None:
        """Nothing on a server that is off can be looked at or changed, and dialling it takes minutes."""
        if status == "off":
            name = self._args.name
            raise Refusal(
                f"the server {name} is off: `hcloud server poweron {name}` starts it, as Hetzner's console does"
            )

    def admits(self, address: str) -> bool:
        """Whether SSH stays open to this address, or is meant to be closed to it."""
        anyone = not address or not self.admin_networks or self._args.admin_networks_exclude_me
        return anyone or any(ip_address(address) in network for network in self.admin_networks)

    def _ssh_key(self, name: str) -> hcloud.SshKey:
        public = self._args.deploy_key[1]
        return hcloud.SshKey(
            name,
            # Another key is another resource at Hetzner, made before the former one goes.
            name=f"{self._args.name}-{hashlib.sha256(public.encode()).hexdigest()[:8]}",
            public_key=public,
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _firewall(self, name: str) -> hcloud.Firewall:
        return hcloud.Firewall(
            name,
            name=self._args.name,
            rules=_firewall_rules(self._args.admin_networks),
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _server(self, name: str, **attached: Any) -> hcloud.Server:
        args = self._args
        return hcloud.Server(
            name,
            name=args.name,
            server_type=args.server_type,
            image="debian-13",
            location=args.location,
            user_data=_user_data(args),
            delete_protection=args.protect,
            rebuild_protection=args.protect,
            opts=pulumi.ResourceOptions(
                parent=self,
                protect=args.protect,
                # Each of these replaces the server on any change; keys rotate on the host, through NixOS.
                ignore_changes=["userData", "sshKeys", "image"],
                delete_before_replace=True,
            ),
            **attached,
        )

    def _primary_ip(self, name: str, kind: str) -> hcloud.PrimaryIp:
        return hcloud.PrimaryIp(
            name,
            name=f"{self._args.name}-{kind}",
            type=kind,
            location=self._args.location,
            auto_delete=False,
            delete_protection=self._args.protect,
            opts=pulumi.ResourceOptions(parent=self, protect=self._args.protect),
        )

    def _connection_now(self, address: pulumi.Output[str]) -> remote.ConnectionArgs:
        args = self._args
        if not (args.former_deploy_key or args.former_host_key):
            return self.connection
        deploy_keys = [args.deploy_key[0], *([args.former_deploy_key] if args.former_deploy_key else [])]
        host_keys = [args.host_key[1], *([args.former_host_key] if args.former_host_key else [])]

        async def ask(arguments: dict[str, Any]) -> tuple[str, str]:
            return await accepted_keys(**arguments, host_keys=host_keys)

        asked = pulumi.Output.all(address=address, private_keys=pulumi.Output.all(*deploy_keys))
        keys: pulumi.Output[tuple[str, str]] = asked.apply(ask)
        return _connection(address, keys[0], keys[1])


def _connection(
    address: pulumi.Output[str], private_key: pulumi.Input[str], host_key: pulumi.Input[str]
) -> remote.ConnectionArgs:
    return remote.ConnectionArgs(
        host=address,
        private_key=private_key,
        host_key=host_key,
        # Refused dials are 5 s apart at the most: enough for a boot and a conversion of ten minutes.
        dial_error_limit=130,
        per_dial_timeout=10,
    )


def host_address(network: str) -> str:
    """The address that Hetzner expects the server to use in its IPv6 network: the first one, <prefix>::1."""
    return str(ip_network(network)[1])


def _firewall_rules(admin_networks: Sequence[IPv4Network | IPv6Network]) -> list[hcloud.FirewallRuleArgs]:
    admins = [str(network) for network in admin_networks] or ANYONE
    return [
        _allow("tcp", "22", admins, "SSH"),
        _allow("tcp", "80", ANYONE, "HTTP: ACME challenges and redirects"),
        _allow("tcp", "443", ANYONE, "HTTPS: headscale, DERP and headscale-ui"),
        _allow("udp", "3478", ANYONE, "STUN"),
        _allow("icmp", None, ANYONE, "ping and path MTU discovery"),
    ]


def _allow(protocol: str, port: str | None, networks: Sequence[str], what: str) -> hcloud.FirewallRuleArgs:
    return hcloud.FirewallRuleArgs(
        direction="in", protocol=protocol, port=port, source_ips=list(networks), description=what
    )


def _user_data(args: ServerArgs) -> pulumi.Output[str]:
    """cloud-init's part: the SSH host key that every connection expects, and a mark that the machine is ours.

    Secret, since it holds a private key. JSON is YAML, so the data needs no template.
    """
    private, public = args.host_key
    mark = {"path": "/etc/become-nixos.allow", "content": f"{args.name}\n", "permissions": "0600"}
    cloud_config = {
        "ssh_deletekeys": True,
        "ssh_keys": {"ed25519_private": private, "ed25519_public": public},
        "write_files": [mark],
    }
    return pulumi.Output.concat("#cloud-config\n", pulumi.Output.json_dumps(cloud_config))
