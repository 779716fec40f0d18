"""A stand-in for version 1.2.1 of the official command provider: `command:remote:Command` and nothing else.

It keeps the official one's surprises: any changed input runs the command again, changed `triggers` always
replace, nothing is read, the resource's timeouts count while it dials alone, a missing host is a mistake of the
connection, and stdout is public unless declared secret.
"""

import asyncio
import os
import secrets
from typing import Any

from pulumi.provider.experimental import provider as p

from rehearsal.plugins import VERSIONS
from rehearsal.plugins.serve import Failure, Log, serve
from rehearsal.plugins.values import UNKNOWN, Properties, differ, is_unknown, own_type, plain, wrap

TYPE = "command:remote:Command"
INPUTS = {
    "addPreviousOutputInEnv",
    "connection",
    "create",
    "delete",
    "environment",
    "logging",
    "stdin",
    "triggers",
    "update",
}
CONNECTION = {
    "host": "host",
    "user": "user",
    "port": "port",
    "privateKey": "private_key",
    "privateKeyPassword": "private_key_password",
    "password": "password",
    "hostKey": "host_key",
    "dialErrorLimit": "dial_error_limit",
    "perDialTimeout": "per_dial_timeout",
}
DEFAULTS = {"user": "root", "port": 22, "dialErrorLimit": 10, "perDialTimeout": 15}
LOGGED = {
    None: frozenset({"stdout", "stderr"}),
    "stdoutAndStderr": frozenset({"stdout", "stderr"}),
    "stdout": frozenset({"stdout"}),
    "stderr": frozenset({"stderr"}),
    "none": frozenset[str](),
}


# A story may lose the answers of commands that the host has carried out: the names of their resources.
LOST_ANSWERS = "REHEARSAL_LOST_ANSWERS"


class CommandProvider(p.Provider):
    def __init__(self, log: Log) -> None:
        self._log = log
        self._dialling: set[asyncio.Task[Any]] = set()

    async def configure(self, request: p.ConfigureRequest) -> p.ConfigureResponse:
        return p.ConfigureResponse(accept_secrets=True, supports_preview=True)

    async def invoke(self, request: p.InvokeRequest) -> p.InvokeResponse:
        raise Failure(_absent(request.tok))

    async def check(self, request: p.CheckRequest) -> p.CheckResponse:
        if (kind := own_type(request.urn)) != TYPE:
            raise Failure(_absent(kind))
        inputs = {key: value for key, value in request.new_inputs.items() if value.value is not None}
        if "connection" in inputs and not is_unknown(inputs["connection"]):
            inputs["connection"] = wrap(DEFAULTS | plain(inputs["connection"]))
        if "connection" in inputs:
            inputs["connection"] = inputs["connection"].with_secret(True)
        return p.CheckResponse(inputs, [p.CheckFailure(key, reason) for key, reason in _mistakes(inputs)])

    async def diff(self, request: p.DiffRequest) -> p.DiffResponse:
        changed = _changed(request.old_state, request.new_inputs)
        kinds = {key: _kind(key, request.old_state, request.new_inputs) for key in changed}
        return p.DiffResponse(
            changes=bool(changed),
            replaces=[key for key in changed if key == "triggers"],
            diffs=changed,
            detailed_diff={key: p.PropertyDiff(kind, True) for key, kind in kinds.items()},
        )

    async def create(self, request: p.CreateRequest) -> p.CreateResponse:
        name, news = request.name + secrets.token_hex(4), request.properties
        if request.preview:
            return p.CreateResponse(name, news | {"stdout": UNKNOWN, "stderr": UNKNOWN})
        empty = {"stdout": wrap(""), "stderr": wrap("")}
        return p.CreateResponse(name, await self._run(request.urn, "create", news | empty, request.timeout))

    async def update(self, request: p.UpdateRequest) -> p.UpdateResponse:
        olds, news = request.olds, request.news
        former = {key: olds.get(key, wrap("")) for key in ("stdout", "stderr")}
        if not request.preview:
            verb = "update" if "update" in news else "create"
            return p.UpdateResponse(await self._run(request.urn, verb, news | former, request.timeout))
        # The official one takes outputs for unchanged when an input was only added.
        if any(key in olds or is_unknown(news.get(key)) for key in _changed(olds, news)):
            former = {"stdout": UNKNOWN, "stderr": UNKNOWN}
        return p.UpdateResponse(news | former)

    async def delete(self, request: p.DeleteRequest) -> None:
        await self._run(request.urn, "delete", request.properties, request.timeout)

    async def cancel(self) -> None:
        for task in self._dialling:
            task.cancel()

    async def _run(self, urn: str, verb: str, state: Properties, seconds: float) -> Properties:
        """Run the command of that name, when there is one, and return the state with its output."""
        if plain(state.get(verb)) is None:
            return state
        # asyncssh takes a third of a second to import, which a preview need not wait for.
        from rehearsal.plugins import session

        try:
            connection = await self._dial(urn, plain(state["connection"]), seconds)
            output = await session.run(
                connection,
                session.RemoteRun(command=plain(state[verb]), **_surroundings(state)),
                line=lambda text: self._log(text, urn=urn, status=True),
                warn=lambda text: self._log(text, urn=urn, severity="WARNING"),
            )
        finally:
            await self._log.delivered()
        if urn.rsplit("::", 1)[1] in os.environ.get(LOST_ANSWERS, "").split():
            raise Failure("wait: remote command exited without exit status or exit signal")
        return state | {"stdout": wrap(output.stdout), "stderr": wrap(output.stderr)}

    async def _dial(self, urn: str, connection: dict[str, Any], seconds: float) -> Any:
        from rehearsal.plugins import dial

        where = dial.Connection(**{CONNECTION[key]: _whole(value) for key, value in connection.items()})
        attempts = dial.dial(where, lambda text: self._log(text, urn=urn, status=True))
        task = asyncio.create_task(attempts)
        self._dialling.add(task)
        try:
            async with asyncio.timeout(seconds or None):
                return await task
        except TimeoutError as error:
            raise Failure("context deadline exceeded") from error
        except asyncio.CancelledError as error:
            raise Failure("context canceled") from error
        finally:
            self._dialling.discard(task)


def _absent(token: str) -> str:
    return f"{token} is not in this stand-in for the command provider, which has {TYPE} only: use that"


def _mistakes(inputs: Properties) -> list[tuple[str, str]]:
    matches = [(key, f"unknown input; the known ones are {sorted(INPUTS)}") for key in inputs.keys() - INPUTS]
    connection = inputs.get("connection")
    if connection is None:
        matches.append(("connection", "Missing required field 'connection'"))
    elif not is_unknown(connection):
        matches += _connection_mistakes(plain(connection))
    if plain(inputs.get("logging")) not in LOGGED and not is_unknown(inputs["logging"]):
        matches.append(("logging", f"{plain(inputs['logging'])!r} is none of {sorted(filter(None, LOGGED))}"))
    return matches


def _connection_mistakes(connection: dict[str, Any]) -> list[tuple[str, str]]:
    supported = f"this stand-in knows {sorted(CONNECTION)}"
    missing = [] if connection.get("host") else [("connection", "Missing required field 'host'")]
    return missing + [(f"connection.{key}", supported) for key in connection.keys() - CONNECTION.keys()]


def _changed(olds: Properties, news: Properties) -> list[str]:
    return sorted(key for key in INPUTS if differ(olds.get(key), news.get(key)))


def _kind(key: str, olds: Properties, news: Properties) -> p.PropertyDiffKind:
    kind = "ADD" if key not in olds else "UPDATE" if key in news else "DELETE"
    return p.PropertyDiffKind[f"{kind}_REPLACE" if key == "triggers" else kind]


def _surroundings(state: Properties) -> dict[str, Any]:
    previous = {f"PULUMI_COMMAND_{key.upper()}": plain(state.get(key)) for key in ("stdout", "stderr")}
    expected = plain(state.get("addPreviousOutputInEnv")) is not False
    return {
        "stdin": plain(state.get("stdin")) or "",
        "environment": plain(state.get("environment")) or {},
        "optional": {name: value for name, value in previous.items() if value and expected},
        "logged": LOGGED[plain(state.get("logging"))],
    }


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) else value


if __name__ == "__main__":
    serve(VERSIONS["command"], CommandProvider)
