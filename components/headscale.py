"""The users of headscale that the stack names, and the keys that their devices join with."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
from pulumi_command import remote

from .command import command
from .host_facts import HostFacts, Unreachable, UserFacts

NEW_KEYS = "`pulumi config set preauthKeySerial $(date +%s) && pulumi up` makes new keys"


@dataclass(frozen=True, kw_only=True)
class HeadscaleBootstrapArgs:
    """`server_id` names the server whose headscale is meant: another one has no users and no keys.

    headscale answers after `deployed`; `facts` is what the host said of its users and keys. `names` are headscale's
    and the web interface's. `secrets_file` holds the API key; `expiration` is a duration as headscale reads it.
    """

    server_id: pulumi.Input[str]
    connection: remote.ConnectionArgs
    deployed: pulumi.Resource
    facts: pulumi.Output[HostFacts | Unreachable]
    names: tuple[str, str]
    secrets_file: Path
    users: Sequence[str]
    expiration: str
    reusable: bool
    ephemeral: bool
    tags: Sequence[str]
    serial: str


class HeadscaleBootstrap(pulumi.ComponentResource):
    """Every user exists and has a pre-auth key, once both names have real certificates."""

    Args = HeadscaleBootstrapArgs
    preauth_key: pulumi.Output[str]
    preauth_keys: pulumi.Output[dict[str, str]]
    preauth_key_expires_at: pulumi.Output[str]
    preauth_keys_expire_at: pulumi.Output[dict[str, str]]
    api_key: pulumi.Output[str]
    join_command: pulumi.Output[str]

    def __init__(self, name: str, args: HeadscaleBootstrapArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("headscale:index:HeadscaleBootstrap", name, None, opts)
        self._args = args
        certificates = self._run(f"{name}-certificates", "certificates.sh", {"names": args.names}, after=args.deployed)
        secrets = {"secretsDigest": hashlib.sha256(args.secrets_file.read_bytes()).hexdigest()}
        api_key = self._answer(f"{name}-api-key", "api-key.sh", secrets, after=certificates)
        self._run(f"{name}-former-users", "former-users.sh", {"users": sorted(args.users)}, after=certificates)
        keys = {user: self._preauth_key(f"{name}-{user}", user, after=certificates) for user in args.users}
        args.facts.apply(self._warn)
        first = args.users[0]
        expiries = {user: pulumi.Output.unsecret(answer["expiresAt"]) for user, answer in keys.items()}
        self.api_key = api_key["key"]
        self.preauth_key = keys[first]["key"]
        self.preauth_keys = pulumi.Output.all(**{user: answer["key"] for user, answer in keys.items()})
        self.preauth_key_expires_at = expiries[first]
        self.preauth_keys_expire_at = pulumi.Output.all(**expiries)
        self.join_command = pulumi.Output.format(
            "tailscale up --login-server https://{0} --auth-key {1}", args.names[0], self.preauth_key
        )
        self.register_outputs({})

    def _warn(self, facts: HostFacts | Unreachable) -> None:
        for warning in warnings(self._args.users, facts):
            pulumi.log.warn(warning, self)

    def _preauth_key(self, name: str, user: str, after: pulumi.Resource) -> pulumi.Output[dict[str, str]]:
        args = self._args
        wanted = {
            "user": user,
            "expiration": args.expiration,
            "reusable": args.reusable,
            "ephemeral": args.ephemeral,
            "tags": args.tags,
            "serial": args.serial,
            "reason": args.facts.apply(lambda facts: reason_for_key(user, facts)),
        }
        # Run once for a request: neither another SSH key to log in with asks for another pre-auth key, nor a host that
        # cannot say what became of the last one.
        unreachable = args.facts.apply(lambda facts: isinstance(facts, Unreachable))
        return self._answer(f"{name}-preauth-key", "preauth-key.sh", wanted, after, once=True, unless=unreachable)

    def _answer(
        self,
        name: str,
        script: str,
        request: dict[str, Any],
        after: pulumi.Resource,
        once: bool = False,
        unless: pulumi.Output[bool] | None = None,
    ) -> pulumi.Output[dict[str, str]]:
        return self._run(name, script, request, after, secret=True, once=once, unless=unless).stdout.apply(json.loads)

    def _run(
        self,
        name: str,
        script: str,
        request: dict[str, Any],
        after: pulumi.Resource,
        secret: bool = False,
        once: bool = False,
        unless: pulumi.Output[bool] | None = None,
    ) -> remote.Command:
        stdin = pulumi.Output.json_dumps(request | {"serverId": self._args.server_id})
        return command(
            name,
            f"sh /etc/nixos/remote/{script}",
            stdin,
            connection=self._args.connection,
            parent=self,
            after=after,
            secret=secret,
            once_for=[stdin] if once else None,
            unless=unless,
        )


def reason_for_key(user: str, facts: HostFacts | Unreachable) -> str:
    """Why the user's pre-auth key is made: as the host recorded it for the last one, or new when that one is lost.

    A reason names the key or the deploy that it follows, so that it never comes twice.
    """
    if isinstance(facts, Unreachable):
        return f"host not reached ({facts.since})"
    known = facts.users.get(user)
    if known is None:
        return f"no key on record (after deploy {facts.deploys_begun})"
    return f"key {known.key} was {known.state} on the server" if _lost(known) else known.reason


def warnings(users: Sequence[str], facts: HostFacts | Unreachable) -> Iterator[str]:
    """What an operator should know of the stack's keys and users, each with the command that changes it."""
    known = facts.users if isinstance(facts, HostFacts) else {}
    if any(held.state == "unknown" for held in known.values()):
        yield "headscale does not answer on the server: whether its pre-auth keys are valid is not known"
    for user, held in known.items():
        if user not in users:
            yield (
                f"headscale:users does not name {user} any more: `pulumi up` expires its pre-auth key; the user stays, "
                f"with its nodes ({held.nodes}), until somebody runs `headscale nodes delete` and "
                f"`headscale users destroy --name {user}` on the server"
            )
        elif _lost(held):
            yield f"the pre-auth key of {user} was {held.state} on the server: `pulumi up` makes a new one"
        elif held.state in ("expired", "used up"):
            yield f"the pre-auth key of {user} is {held.state}: {NEW_KEYS}, and expires the old ones"


def _lost(held: UserFacts) -> bool:
    return held.state in ("revoked", "deleted")
