"""Serving a provider to the engine, and the engine's log.

The SDK's own `main` hands no log to the provider and puts "Unexpected <class ...>" before every message.
Here a `Failure` reaches the user as its bare text; any other exception is a defect in a stand-in.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

import grpc
import grpc.aio
from pulumi.provider.experimental.provider import Provider
from pulumi.provider.experimental.server import ProviderServicer
from pulumi.runtime._grpc_settings import _GRPC_CHANNEL_OPTIONS as OPTIONS
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, provider_pb2_grpc

Method = TypeVar("Method", bound=Callable[..., Any])


class Failure(Exception):
    """Something the user must read: the text is complete as it stands."""


class Log:
    """Messages to the engine, delivered in order. `status` ones show only while the resource is worked on."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._queue: asyncio.Queue[engine_pb2.LogRequest] = asyncio.Queue()
        self._sender: asyncio.Task[None] | None = None

    def __call__(self, message: str, *, urn: str, severity: str = "INFO", status: bool = False) -> None:
        level = engine_pb2.LogSeverity.Value(severity)
        self._queue.put_nowait(engine_pb2.LogRequest(severity=level, message=message, urn=urn, ephemeral=status))
        self._sender = self._sender or asyncio.create_task(self._send())

    async def delivered(self) -> None:
        """Return when the engine has got everything said so far."""
        await self._queue.join()

    async def _send(self) -> None:
        async with grpc.aio.insecure_channel(self._address, options=OPTIONS) as channel:
            engine: Any = engine_pb2_grpc.EngineStub(channel)
            while True:
                request = await self._queue.get()
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await engine.Log(request)
                self._queue.task_done()


def _failing_politely(method: Method) -> Method:
    async def call(self: ProviderServicer, request: Any, context: Any) -> Any:
        try:
            return await method(self, request, context)
        except Exception as error:
            # The SDK raises another one in its place, with a trace behind the message.
            failure = error if isinstance(error, Failure) else error.__context__
            if not isinstance(failure, Failure):
                raise
            await context.abort(grpc.StatusCode.UNKNOWN, str(failure))

    return cast(Method, call)


class Servicer(ProviderServicer):
    Configure = _failing_politely(ProviderServicer.Configure)
    Invoke = _failing_politely(ProviderServicer.Invoke)
    Check = _failing_politely(ProviderServicer.Check)
    Diff = _failing_politely(ProviderServicer.Diff)
    Create = _failing_politely(ProviderServicer.Create)
    Read = _failing_politely(ProviderServicer.Read)
    Update = _failing_politely(ProviderServicer.Update)
    Delete = _failing_politely(ProviderServicer.Delete)


async def _serve(version: str, make: Callable[[Log], Provider], engine: str) -> None:
    server = grpc.aio.server(options=OPTIONS)
    servicer = Servicer([], version, make(Log(engine)), engine_address=engine)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    # The engine waits for its plugins to end, one after the other; taking Python apart costs each 50 ms.
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, os._exit, 0)
    print(port, flush=True)
    await server.wait_for_termination()


def serve(version: str, make: Callable[[Log], Provider]) -> None:
    """Be the plugin: the engine's address is the first argument, the port served the first line printed."""
    asyncio.run(_serve(version, make, sys.argv[1]))
