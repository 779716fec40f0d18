"""An SSH connection dialled the way the official command provider does: its options, retries and error texts.

Not modelled: proxies, SSH agents, keyboard-interactive. Where the official provider waits for ever this one
fails and says so. Connections stay open until the plugin ends, as there.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import asyncssh

from rehearsal.plugins.serve import Failure

FIRST_DELAY, GROWTH, LONGEST_DELAY = 0.1, 1.5, 5.0
# Go's TCP keepalive gives up a dead peer after 15 + 9 x 15 s: who is left after that is silent, not dead.
HANDSHAKE_LIMIT = 180.0

opened: list[asyncssh.SSHClientConnection] = []


@dataclass(frozen=True, kw_only=True)
class Connection:
    host: str
    user: str = "root"
    port: int = 22
    private_key: str | None = field(default=None, repr=False)
    private_key_password: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    host_key: str | None = None
    dial_error_limit: int = 10
    per_dial_timeout: int = 15

    @property
    def endpoint(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class DialError(Exception):
    """A failed attempt that is worth another one."""


def hang(what: str) -> Failure:
    """The failure that stands for a wait without end."""
    return Failure(f"{what}: the official command provider hangs here for ever (this stand-in fails instead)")


async def dial(connection: Connection, progress: Callable[[str], None]) -> asyncssh.SSHClientConnection:
    """Connect, trying again with growing delays up to the limit of failed attempts."""
    options, delay = _options(connection), FIRST_DELAY
    limit = "inf" if connection.dial_error_limit == -1 else str(connection.dial_error_limit)
    for failed in count():
        try:
            return await _attempt(connection, options)
        except DialError as error:
            if -1 < connection.dial_error_limit <= failed:
                raise Failure(f"after {failed} failed attempts: {error}") from error
        progress(f"Dial {failed + 1}/{limit} failed: retrying")
        await asyncio.sleep(delay)
        delay = min(delay * GROWTH, LONGEST_DELAY)
    raise AssertionError("count() has no end")


def _options(connection: Connection) -> dict[str, Any]:
    options: dict[str, Any] = {"known_hosts": None, "client_keys": None}
    try:
        if connection.host_key is not None:
            key = asyncssh.import_public_key(connection.host_key)
            options |= {"known_hosts": ([key], [], []), "server_host_key_algs": [key.get_algorithm()]}
        if connection.private_key is not None:
            password = connection.private_key_password
            options["client_keys"] = [asyncssh.import_private_key(connection.private_key, password)]
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise Failure(f"could not read the connection's hostKey or privateKey: {error}") from error
    return options


async def _attempt(connection: Connection, options: dict[str, Any]) -> asyncssh.SSHClientConnection:
    sock, deadline = await _tcp(connection), asyncio.timeout(HANDSHAKE_LIMIT)
    try:
        async with deadline:
            client = await _handshake(connection, sock, options)
    except (OSError, asyncssh.Error) as error:
        if deadline.expired():
            raise hang(f"{connection.endpoint} accepted the connection and then stayed silent") from error
        raise DialError(f"ssh: handshake failed: {_handshake_error(error)}") from error
    opened.append(client)
    return client


async def _handshake(
    connection: Connection, sock: socket.socket, options: dict[str, Any]
) -> asyncssh.SSHClientConnection:
    return await asyncssh.connect(
        connection.host,
        connection.port,
        sock=sock,
        config=None,
        username=connection.user,
        password=connection.password,
        agent_path=None,
        login_timeout=0,
        **options,
    )


def _handshake_error(error: Exception) -> str:
    match error:
        case asyncssh.HostKeyNotVerifiable():
            return f"ssh: host key mismatch ({error})"
        case asyncssh.PermissionDenied():
            return "ssh: unable to authenticate, no supported methods remain"
        case _:
            return str(error) or type(error).__name__


async def _tcp(connection: Connection) -> socket.socket:
    try:
        async with asyncio.timeout(connection.per_dial_timeout or None):
            return await _connected(connection.host, connection.port)
    except TimeoutError as error:
        raise DialError(f"dial tcp {connection.endpoint}: i/o timeout") from error
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error)
        raise DialError(f"dial tcp {connection.endpoint}: connect: {reason}") from error


async def _connected(host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    failure = OSError("no such host")
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        try:
            _prepare(sock)
            await loop.sock_connect(sock, address)
            return sock
        except OSError as error:
            sock.close()
            failure = error
    raise failure


def _prepare(sock: socket.socket) -> None:
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 9)):
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
