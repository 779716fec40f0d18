"""The SSH keys of a stack, and connections to its server while the program runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import pulumi

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from asyncssh import SSHClientConnection


class KeyPair(NamedTuple):
    """An SSH key: the private half secret, the public half as a line for authorized_keys."""

    private: pulumi.Output[str]
    public: str


@dataclass(frozen=True, kw_only=True)
class ServerKeys:
    """The key that logs in and the key that the server shows.

    Of the former keys, which a server may still have, only the halves that open a connection are needed.
    """

    deploy_key: KeyPair
    host_key: KeyPair
    former_deploy_key: pulumi.Output[str] | None = None
    former_host_key: str | None = None


def connect(
    address: str, private_key: str, host_keys: Sequence[str]
) -> "AbstractAsyncContextManager[SSHClientConnection]":
    """Open a connection as root to a server that shows one of `host_keys`; an async context manager.

    Raises asyncssh.Error or OSError. asyncssh takes 0.2 s to import: only what connects pays for it.
    """
    import asyncssh

    return asyncssh.connect(
        address,
        username="root",
        client_keys=[asyncssh.import_private_key(private_key)],
        known_hosts=([asyncssh.import_public_key(line) for line in host_keys], [], []),
        config=None,
    )
