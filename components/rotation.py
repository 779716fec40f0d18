"""Which keys a server takes while they change, found out over SSH: a Command has one key and expects one host key."""

import asyncio
from collections.abc import Sequence

import pulumi

DEADLINE = 10.0


async def accepted_keys(address: str, private_keys: Sequence[str], host_keys: Sequence[str]) -> tuple[str, str]:
    """The first private key that lets root in, and the one of `host_keys` that the server shows, within ten seconds.

    The configured keys come first, the former ones after them. Who cannot be asked counts as having the configured
    ones: a new server was given them.
    """
    import asyncssh

    configured = private_keys[0], host_keys[0]
    try:
        async with asyncio.timeout(DEADLINE):
            found = await _try(address, private_keys, host_keys)
    except (OSError, asyncssh.Error) as error:
        pulumi.log.warn(
            f"asking {address} which of the configured and the former SSH keys it takes: {type(error).__name__} {error}"
        )
        return configured
    if found == configured:
        former = {"formerDeployKey": private_keys[1:], "formerSshHostKey": host_keys[1:]}
        forget = " and ".join(f"`pulumi config rm headscale:{name}`" for name, keys in former.items() if keys)
        pulumi.log.warn(f"the server takes the configured SSH keys: {forget} forgets what was before")
    return found


async def _try(address: str, private_keys: Sequence[str], host_keys: Sequence[str]) -> tuple[str, str]:
    import asyncssh

    known = {asyncssh.import_public_key(line): line for line in host_keys}
    denied = None
    for private_key in private_keys:
        try:
            async with asyncssh.connect(
                address,
                username="root",
                client_keys=[asyncssh.import_private_key(private_key)],
                known_hosts=(list(known), [], []),
                config=None,
            ) as connection:
                shown = connection.get_server_host_key()
                if shown is None:
                    raise asyncssh.HostKeyNotVerifiable("the server showed no host key")
                return private_key, known[shown]
        except asyncssh.PermissionDenied as error:
            denied = error
    assert denied
    raise denied
