"""The users of headscale that the stack names, and the keys that their devices join with."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
from pulumi_command import remote

from .command import answer, command
from .host_facts import HostFacts, Unreachable, UserFacts
from .names import Names
from .nixos import NixosDeployment

PURPOSES = {
    "certificates.sh": "waits for a certificate of each name (seconds; the first time at most five minutes)",
    "api-key.sh": "reads headscale's API key (seconds)",
    "former-users.sh": "expires the pre-auth keys of users that are not configured any more (seconds)",
    "preauth-key.sh": "makes the user where it is absent, and a pre-auth key (seconds)",
}
WITH_ITS_USER = "deleted with its user"
NEW_KEYS = "`pulumi config set preauthKeySerial $(date +%s) && pulumi up` makes new keys"


@dataclass(frozen=True, kw_only=True)
class PreauthKey:
    """The traits of a pre-auth key: a new `serial` makes a new key and expires the old one.

    `expiration` is a duration as headscale reads it.
    """

    expiration: str
    reusable: bool
    ephemeral: bool
    tags: Sequence[str]
    serial: str


@dataclass(frozen=True, kw_only=True)
class HeadscaleBootstrapArgs:
    """`server_id` names the server whose headscale this is: another one has neither users nor keys.

    headscale answers after `deployed`, which has the host's facts of users and keys. `secrets_file` holds the API key.
    """

    server_id: pulumi.Input[str]
    connection: remote.ConnectionArgs
    deployed: NixosDeployment
    names: Names
    secrets_file: Path
    users: Sequence[str]
    preauth_key: PreauthKey


class HeadscaleBootstrap(pulumi.ComponentResource):
    """All names have real certificates, and every user exists and has a pre-auth key."""

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
        self._run(f"{name}-certificates", "certificates.sh", {"names": args.names.served})
        secrets = {"secretsDigest": hashlib.sha256(args.secrets_file.read_bytes()).hexdigest()}
        api_key = self._answer(f"{name}-api-key", "api-key.sh", secrets)
        self._run(f"{name}-former-users", "former-users.sh", {"users": sorted(args.users)})
        keys = {user: self._preauth_key(f"{name}-{user}", user) for user in args.users}
        args.deployed.facts.apply(self._warn)
        first = args.users[0]
        expiries = {user: pulumi.Output.unsecret(answer["expiresAt"]) for user, answer in keys.items()}
        self.api_key = api_key["key"]
        self.preauth_key = keys[first]["key"]
        self.preauth_keys = pulumi.Output.all(**{user: answer["key"] for user, answer in keys.items()})
        self.preauth_key_expires_at = expiries[first]
        self.preauth_keys_expire_at = pulumi.Output.all(**expiries)
        self.join_command = pulumi.Output.format(
            "tailscale up --login-server https://{0} --auth-key {1}", args.names.headscale, self.preauth_key
        )
        self.register_outputs({})

    def _warn(self, facts: HostFacts | Unreachable) -> None:
        for warning in warnings(self._args.users, facts):
            pulumi.log.warn(warning, self)

    def _preauth_key(self, name: str, user: str) -> pulumi.Output[dict[str, str]]:
        facts, key = self._args.deployed.facts, self._args.preauth_key
        request = {
            "user": user,
            "expiration": key.expiration,
            "reusable": key.reusable,
            "ephemeral": key.ephemeral,
            "tags": key.tags,
            "serial": key.serial,
            "reason": facts.apply(lambda facts: reason_for_key(user, facts)),
        }
        # Run once for a request: neither another SSH key nor a host that is unreachable asks for another pre-auth key.
        unreachable = facts.apply(lambda facts: isinstance(facts, Unreachable))
        return self._answer(f"{name}-preauth-key", "preauth-key.sh", request, once=True, unless=unreachable)

    def _answer(
        self,
        name: str,
        script: str,
        request: dict[str, Any],
        once: bool = False,
        unless: pulumi.Output[bool] | None = None,
    ) -> pulumi.Output[dict[str, str]]:
        return answer(self._run(name, script, request, secret=True, once=once, unless=unless))

    def _run(
        self,
        name: str,
        script: str,
        request: dict[str, Any],
        secret: bool = False,
        once: bool = False,
        unless: pulumi.Output[bool] | None = None,
    ) -> remote.Command:
        stdin = pulumi.Output.json_dumps(request | {"serverId": self._args.server_id})
        return command(
            name,
            f"sh /etc/nixos/remote/{script}",
            stdin,
            purpose=PURPOSES[script],
            connection=self._args.connection,
            parent=self,
            after=self._args.deployed,
            secret=secret,
            triggers=[stdin] if once else None,
            unless=unless,
        )


def reason_for_key(user: str, facts: HostFacts | Unreachable) -> str:
    """The reason for the user's pre-auth key: as the host recorded it for the last one, or new when that one is lost.

    A reason names the key or the deploy that it follows, so that it never comes twice.
    """
    if isinstance(facts, Unreachable):
        return f"host not reached ({facts.asked_at})"
    last = facts.users.get(user)
    if last is None:
        return f"no key on record (after deploy {facts.deploys_begun})"
    return f"key {last.key} was {last.state} on the server" if _lost(last) else last.reason


def warnings(users: Sequence[str], facts: HostFacts | Unreachable) -> Iterator[str]:
    """Warnings about the stack's keys and users, each with the command that changes it."""
    on_host = facts.users if isinstance(facts, HostFacts) else {}
    if any(key.state == "unknown" for key in on_host.values()):
        yield "headscale does not answer on the server: whether its pre-auth keys are valid is not known"
    for user, key in on_host.items():
        if user not in users:
            yield (
                f"headscale:users no longer names {user}: `pulumi up` expires its pre-auth key; the user stays, "
                f"with its nodes ({key.nodes}), until you run `headscale nodes delete` and "
                f"`headscale users destroy --name {user}` on the server"
            )
        elif key.state == WITH_ITS_USER:
            yield f"the user {user} and its pre-auth key were deleted on the server: `pulumi up` makes both again"
        elif _lost(key):
            yield f"the pre-auth key of {user} was {key.state} on the server: `pulumi up` makes a new one"
        elif key.state in ("expired", "used up"):
            yield f"the pre-auth key of {user} is {key.state}: {NEW_KEYS}, and expires the old ones"


def _lost(key: UserFacts) -> bool:
    return key.state in ("revoked", "deleted", WITH_ITS_USER)
