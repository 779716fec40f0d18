"""The keys that a server accepts during a rotation, tried over SSH: a Command has one key and expects one host key."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import pulumi

from .ssh import connect

DEADLINE = 10.0


class AcceptedKeys(NamedTuple):
    """The private key that lets root in, and the public line of the host key that the server shows."""

    deploy_key: str
    host_key: str


async def accepted_keys(address: str, private_keys: Sequence[str], host_keys: Sequence[str]) -> AcceptedKeys:
    """The first private key that lets root in, and the one of `host_keys` that the server shows, within ten seconds.

    The configured keys come first, the former ones after them. An unreachable server is assumed to have the configured
    keys, as a new one does.
    """
    import asyncssh

    configured = AcceptedKeys(private_keys[0], host_keys[0])
    try:
        async with asyncio.timeout(DEADLINE):
            keys = await _try(address, private_keys, host_keys)
    except (OSError, asyncssh.Error) as error:
        pulumi.log.warn(
            f"asking {address} which of the configured and former SSH keys it accepts: {type(error).__name__} {error}"
        )
        return configured
    if keys == configured:
        former = {"formerDeployKey": private_keys[1:], "formerSshHostKey": host_keys[1:]}
        forget = " and ".join(f"`pulumi config rm headscale:{name}`" for name, old in former.items() if old)
        pulumi.log.warn(f"the server accepts the configured SSH keys: {forget} removes the former ones")
    return keys


async def _try(address: str, private_keys: Sequence[str], host_keys: Sequence[str]) -> AcceptedKeys:
    import asyncssh

    lines = {asyncssh.import_public_key(line): line for line in host_keys}
    denied = None
    for private_key in private_keys:
        try:
            async with connect(address, private_key, host_keys) as connection:
                host_key = connection.get_server_host_key()
                if host_key is None:
                    raise asyncssh.HostKeyNotVerifiable("the server showed no host key")
                return AcceptedKeys(private_key, lines[host_key])
        except asyncssh.PermissionDenied as error:
            denied = error
    assert denied
    raise denied
