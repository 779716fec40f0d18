"""The Hetzner server, its firewall and the addresses that outlive it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

import pulumi
import pulumi_hcloud as hcloud
from pulumi_command import remote

from offer import Offer, Order

from . import hetzner
from .ending import Refusal
from .rotation import AcceptedKeys, accepted_keys
from .ssh import ServerKeys

ANYONE = ("0.0.0.0/0", "::/0")


@dataclass(frozen=True, kw_only=True)
class ServerArgs:
    """`admin_networks` may reach SSH, anyone where there are none; they may leave out this program where told so.

    `protect` keeps the server from being deleted, here and at Hetzner. Without `host_facts` a preview
    compares the clouds alone.
    """

    name: str
    server_type: str
    location: str
    admin_networks: Sequence[IPv4Network | IPv6Network]
    admin_networks_exclude_me: bool
    ssh_keys: ServerKeys
    protect: bool
    host_facts: bool


class Server(pulumi.ComponentResource):
    """A Debian server at addresses that outlive it, whose SSH host key is known before it boots.

    `connection` has the configured keys, `ssh_keys`; `current_connection` those that the server accepts, which may be
    the former ones. `present_address` is the address of the server that is there already, empty without one.
    """

    Args = ServerArgs
    server_id: pulumi.Output[str]
    ipv4: pulumi.Output[str]
    ipv6: pulumi.Output[str]
    present_address: pulumi.Output[str]
    connection: remote.ConnectionArgs
    current_connection: remote.ConnectionArgs
    ssh_keys: ServerKeys
    admin_networks: Sequence[IPv4Network | IPv6Network]
    name: str
    host_facts: bool
    _checked_name: pulumi.Input[str]

    def __init__(self, name: str, args: ServerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("headscale:index:Server", name, None, opts)
        self._args = args
        self.name, self.host_facts = args.name, args.host_facts
        look_ups = pulumi.InvokeOptions(parent=self)
        offer = hetzner.look_up(look_ups)
        possible_name = offer.apply(self._possible)
        # All resources with a name wait for the look-up, except in a preview, which touches none.
        self._checked_name = args.name if pulumi.runtime.is_dry_run() else possible_name
        self.present_address = offer.apply(lambda offer: offer.address(args.name))
        ipv4, ipv6 = self._primary_ip(f"{name}-ipv4", "ipv4"), self._primary_ip(f"{name}-ipv6", "ipv6")
        ssh_key, firewall = self._ssh_key(f"{name}-ssh-key"), self._firewall(f"{name}-firewall")
        server = self._server(
            f"{name}-server",
            ssh_keys=[ssh_key.id],
            firewall_ids=[firewall.id.apply(int)],
            public_nets=[{"ipv4": ipv4.id.apply(int), "ipv6": ipv6.id.apply(int)}],
        )
        hetzner.warn_of_leftovers(
            {"server": [server], "primary-ip": [ipv4, ipv6], "firewall": [firewall], "ssh-key": [ssh_key]}, look_ups
        )
        self.ssh_keys = args.ssh_keys
        self.admin_networks = args.admin_networks
        self.server_id = server.id
        self.ipv4 = ipv4.ip_address
        self.ipv6 = ipv6.ip_network.apply(host_address)
        keys = args.ssh_keys
        self.connection = _connection(server.ipv4_address, keys.deploy_key.private, keys.host_key.public)
        self.current_connection = self._current_connection(server.ipv4_address)
        self.register_outputs({"serverId": self.server_id, "ipv4": self.ipv4, "ipv6": self.ipv6})

    def _possible(self, offer: Offer) -> str:
        """The server's name, once it is certain that Hetzner can carry out the order."""
        args = self._args
        order = Order(name=args.name, server_type=args.server_type, location=args.location, protect=args.protect)
        if obstacles := list(offer.obstacles(order)):
            raise Refusal("\n  ".join(map(str, obstacles)))
        for warning in offer.warnings(order):
            pulumi.log.warn(warning, self)
        return args.name

    def admits(self, address: str) -> bool:
        """True where SSH stays open to this address, or may be closed to it."""
        anyone = not address or not self.admin_networks or self._args.admin_networks_exclude_me
        return anyone or any(ip_address(address) in network for network in self.admin_networks)

    def _ssh_key(self, name: str) -> hcloud.SshKey:
        public = self._args.ssh_keys.deploy_key.public
        return hcloud.SshKey(
            name,
            # A new key is a new resource at Hetzner, created before the former one is deleted.
            name=pulumi.Output.concat(self._checked_name, "-", hashlib.sha256(public.encode()).hexdigest()[:8]),
            public_key=public,
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _firewall(self, name: str) -> hcloud.Firewall:
        return hcloud.Firewall(
            name,
            name=self._checked_name,
            rules=_firewall_rules(self._args.admin_networks),
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _server(self, name: str, **attached: Any) -> hcloud.Server:
        args = self._args
        return hcloud.Server(
            name,
            name=self._checked_name,
            server_type=args.server_type,
            image="debian-13",
            location=args.location,
            user_data=_user_data(args),
            delete_protection=args.protect,
            rebuild_protection=args.protect,
            opts=pulumi.ResourceOptions(
                parent=self,
                protect=args.protect,
                # Each of the first three replaces the server on any change; keys rotate on the host, through NixOS.
                # Backups that a person switches on at Hetzner are kept: switched off, all of them would be deleted.
                ignore_changes=["userData", "sshKeys", "image", "backups"],
                delete_before_replace=True,
            ),
            **attached,
        )

    def _primary_ip(self, name: str, kind: str) -> hcloud.PrimaryIp:
        return hcloud.PrimaryIp(
            name,
            # Another location is another name: Hetzner does not delete addresses that a server has, so they go last.
            name=pulumi.Output.concat(self._checked_name, "-", kind, "-", self._args.location),
            type=kind,
            location=self._args.location,
            auto_delete=False,
            # Not protected: the server is, and without one, a location that is sold out can be left.
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _current_connection(self, address: pulumi.Output[str]) -> remote.ConnectionArgs:
        keys = self._args.ssh_keys
        if not self._args.host_facts or not (keys.former_deploy_key or keys.former_host_key):
            return self.connection
        deploy_keys = [keys.deploy_key.private, *([keys.former_deploy_key] if keys.former_deploy_key else [])]
        host_keys = [keys.host_key.public, *([keys.former_host_key] if keys.former_host_key else [])]

        async def ask(arguments: dict[str, Any]) -> AcceptedKeys:
            return await accepted_keys(**arguments, host_keys=host_keys)

        arguments = pulumi.Output.all(address=address, private_keys=pulumi.Output.all(*deploy_keys))
        accepted: pulumi.Output[AcceptedKeys] = arguments.apply(ask)
        return _connection(address, accepted.deploy_key, accepted.host_key)


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
    private, public = args.ssh_keys.host_key
    mark = {"path": "/etc/become-nixos.allow", "content": f"{args.name}\n", "permissions": "0600"}
    cloud_config = {
        "ssh_deletekeys": True,
        "ssh_keys": {"ed25519_private": private, "ed25519_public": public},
        "write_files": [mark],
    }
    return pulumi.Output.concat("#cloud-config\n", pulumi.Output.json_dumps(cloud_config))
