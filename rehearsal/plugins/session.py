"""One command in one SSH session, by the official command provider's rules for variables, output, errors."""

import asyncio
import contextlib
import json
import signal as signals
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import asyncssh
from asyncssh.packet import String

from rehearsal.plugins.dial import hang
from rehearsal.plugins.serve import Failure

LONGEST_LINE = 64 * 1024

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class RemoteRun:
    """A command to run. Streams in `logged` are passed on line by line; a server may refuse what is `optional`."""

    command: str
    stdin: str = field(default="", repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    optional: Mapping[str, str] = field(default_factory=dict, repr=False)
    logged: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Output:
    stdout: str
    stderr: str


async def run(connection: asyncssh.SSHClientConnection, what: RemoteRun, *, line: Say, warn: Say) -> Output:
    """Run it to its end and return what it printed, or raise a Failure with all of that."""
    session = _Session(what, line=line, warn=warn)
    try:
        channel, _ = await connection.create_session(lambda: session, what.command, encoding=None)
        # A process that is gone already left its reason in the session.
        with contextlib.suppress(BrokenPipeError):
            channel.write(what.stdin.encode())
            channel.write_eof()
        await session.closed
    except (OSError, asyncssh.Error) as error:
        raise Failure(f"ssh: {error}: running {json.dumps(what.command, ensure_ascii=False)}") from error
    return session.result()


class _Lines:
    """Both logged streams cut into lines. They share one pipe in the official provider too."""

    def __init__(self, say: Say) -> None:
        self.say, self.rest = say, b""

    def feed(self, data: bytes) -> None:
        *lines, self.rest = (self.rest + data).split(b"\n")
        if any(len(line) >= LONGEST_LINE for line in (*lines, self.rest)):
            raise hang(f"the command printed a line of {LONGEST_LINE} bytes or more with logging on")
        for line in lines:
            self.say(line.removesuffix(b"\r").decode(errors="replace"))

    def end(self) -> None:
        if self.rest:
            self.say(self.rest.decode(errors="replace"))


class _Session(asyncssh.SSHClientSession[bytes]):
    def __init__(self, what: RemoteRun, *, line: Say, warn: Say) -> None:
        self.what, self.warn, self.lines = what, warn, _Lines(line)
        self.stdout, self.stderr, self.both = bytearray(), bytearray(), bytearray()
        self.problem = "wait: remote command exited without exit status or exit signal"
        self.hang: Failure | None = None
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self.channel, request = chan, chan._make_request

        # asyncssh asks for no answer when it sets variables; the official provider runs nothing without it.
        async def after_environment(kind: bytes, *arguments: bytes) -> Any:
            await self._set_environment(request)
            return await request(kind, *arguments)

        vars(chan)["_make_request"] = after_environment

    async def _set_environment(self, request: Callable[..., Any]) -> None:
        for name, value in {**self.what.optional, **self.what.environment}.items():
            if await request(b"env", String(name), String(value)):
                continue
            if name in self.what.environment:
                raise Failure(f'could not set environment variable "{name}": ssh: setenv failed')
            self.warn(f"Unable to set '{name}'. This only works if your SSH server accepts it (AcceptEnv).")

    def data_received(self, data: bytes, datatype: int | None) -> None:
        name = "stdout" if datatype is None else "stderr"
        getattr(self, name).extend(data)
        self.both.extend(data)
        if name in self.what.logged and self.hang is None:
            try:
                self.lines.feed(data)
            except Failure as failure:
                self.hang = failure
                self.channel.abort()

    def exit_status_received(self, status: int) -> None:
        if status:
            self.problem = f"Process exited with status {status}"
        else:
            # The official provider's copy of stdin ends with this when the process did not take all of it.
            self.problem = "EOF" if self.channel.get_write_buffer_size() else ""

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:
        number = getattr(signals, f"SIG{signal}", 0)
        reason = f". Reason was: {msg}" if msg else ""
        self.problem = f"Process exited with status {128 + number} from signal {signal}{reason}"

    def connection_lost(self, exc: Exception | None) -> None:
        self.lines.end()
        if not self.closed.done():
            self.closed.set_result(None)

    def result(self) -> Output:
        if self.hang:
            raise self.hang
        if self.problem:
            command = json.dumps(self.what.command, ensure_ascii=False)
            raise Failure(f"{self.problem}: running {command}:\n{self.both.decode(errors='replace')}")
        return Output(_text(self.stdout), _text(self.stderr))


def _text(output: bytearray) -> str:
    try:
        return output.decode().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise Failure(f"the command's output is not UTF-8 and cannot be sent to the engine: {error}") from error
