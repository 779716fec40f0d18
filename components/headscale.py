"""The first users of headscale and the keys that their devices join with."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi_command import remote

from .command import command


@dataclass(frozen=True, kw_only=True)
class HeadscaleBootstrapArgs:
    """`server_id` names the server whose headscale is meant: another one has no users and no keys.

    headscale answers after `deployed`; `expiration` is a duration as headscale reads it.
    """

    server_id: pulumi.Input[str]
    connection: remote.ConnectionArgs
    deployed: pulumi.Resource
    headscale_name: str
    ui_name: str
    users: Sequence[str]
    expiration: str
    reusable: bool
    serial: str


class HeadscaleBootstrap(pulumi.ComponentResource):
    """Every user exists and has a pre-auth key, once both names have real certificates."""

    Args = HeadscaleBootstrapArgs
    preauth_key: pulumi.Output[str]
    preauth_keys: pulumi.Output[dict[str, str]]
    preauth_key_expires_at: pulumi.Output[str]
    api_key: pulumi.Output[str]
    join_command: pulumi.Output[str]

    def __init__(self, name: str, args: HeadscaleBootstrapArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("headscale:index:HeadscaleBootstrap", name, None, opts)
        self._args = args
        names = {"names": [args.headscale_name, args.ui_name]}
        certificates = self._run(f"{name}-certificates", "certificates.sh", names, after=args.deployed)
        api_key = self._answer(f"{name}-api-key", "api-key.sh", {}, after=certificates)
        keys = {user: self._preauth_key(f"{name}-{user}", user, after=certificates) for user in args.users}
        first = keys[args.users[0]]
        self.api_key = api_key["key"]
        self.preauth_key = first["key"]
        self.preauth_keys = pulumi.Output.all(**{user: answer["key"] for user, answer in keys.items()})
        self.preauth_key_expires_at = pulumi.Output.unsecret(first["expiresAt"])
        self.join_command = pulumi.Output.format(
            "tailscale up --login-server https://{0} --auth-key {1}", args.headscale_name, self.preauth_key
        )
        self.register_outputs({})

    def _preauth_key(self, name: str, user: str, after: pulumi.Resource) -> pulumi.Output[dict[str, str]]:
        args = self._args
        wanted = {
            "user": user,
            "expiration": args.expiration,
            "reusable": args.reusable,
            "serial": args.serial,
        }
        return self._answer(f"{name}-preauth-key", "preauth-key.sh", wanted, after)

    def _answer(self, name: str, script: str, request: dict, after: pulumi.Resource) -> pulumi.Output[dict[str, str]]:
        return self._run(name, script, request, after, secret=True).stdout.apply(json.loads)

    def _run(
        self, name: str, script: str, request: dict, after: pulumi.Resource, secret: bool = False
    ) -> remote.Command:
        return command(
            name,
            f"sh /etc/nixos/remote/{script}",
            pulumi.Output.json_dumps(request | {"serverId": self._args.server_id}),
            connection=self._args.connection,
            parent=self,
            after=after,
            secret=secret,
        )
