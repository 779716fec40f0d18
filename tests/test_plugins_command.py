"""The stand-in command provider against a real sshd, without the engine."""

import asyncio
import socket
import subprocess
import threading
import time
from collections.abc import Coroutine
from typing import Any

import pytest
from pulumi.provider.experimental import provider as p
from sshd import Sshd, make_key

from rehearsal.plugins import dial
from rehearsal.plugins.command import TYPE, CommandProvider
from rehearsal.plugins.serve import Failure, Log
from rehearsal.plugins.values import UNKNOWN, plain, wrap

# While it dials alone: a command that runs may take longer.
TIMEOUT = 20.0
URN = f"urn:pulumi:dev::test::my:index:Parent${TYPE}::it"


class LogRecorder(Log):
    def __init__(self) -> None:
        self.lines: list[tuple[float, str, bool]] = []

    def __call__(self, message: str, *, urn: str, severity: str = "INFO", status: bool = False) -> None:
        self.lines.append((time.monotonic(), f"{severity} {message}", status))

    async def delivered(self) -> None:
        pass

    @property
    def text(self) -> str:
        return "\n".join(line for _, line, _ in self.lines)


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run it, and close the connections that a plugin would leave open until its end."""

    async def closing() -> Any:
        try:
            return await work
        finally:
            while dial.opened:
                connection = dial.opened.pop()
                connection.abort()
                await connection.wait_closed()

    return asyncio.run(closing())


def create(connection: dict[str, Any], log: LogRecorder | None = None, **inputs: Any) -> dict[str, Any]:
    return run(_create(CommandProvider(log or LogRecorder()), {"connection": connection, **inputs}))


async def _create(provider: CommandProvider, inputs: dict[str, Any], timeout: float = TIMEOUT) -> dict[str, Any]:
    checked = await provider.check(p.CheckRequest(URN, {}, plain_to_properties(inputs), b""))
    assert not checked.failures, [(failure.property, failure.reason) for failure in checked.failures]
    state = await provider.create(p.CreateRequest(URN, checked.inputs or {}, timeout, False))
    return {key: plain(value) for key, value in state.properties.items()}


def plain_to_properties(values: dict[str, Any]) -> dict[str, Any]:
    return {key: wrap(value) for key, value in values.items()}


def update(connection: dict[str, Any], log: LogRecorder, olds: dict[str, Any], **news: Any) -> dict[str, Any]:
    request = p.UpdateRequest(
        URN,
        "it",
        plain_to_properties(olds),
        plain_to_properties({"connection": connection, **news}),
        0,
        [],
        False,
    )
    state = run(CommandProvider(log).update(request))
    return {key: plain(value) for key, value in state.properties.items()}


def test_output_is_kept_without_the_last_newline(sshd: Sshd) -> None:
    state = create(sshd.connection, create="cat; echo; echo problem >&2", stdin="from stdin\n", logging="none")
    assert (state["stdout"], state["stderr"]) == ("from stdin\n", "problem")


def test_a_failing_command_is_reported_with_its_text_and_all_its_output(sshd: Sshd) -> None:
    with pytest.raises(Failure) as failure:
        create(sshd.connection, create='echo "out"; echo err >&2; exit 3')
    text = str(failure.value)
    assert text.startswith('Process exited with status 3: running "echo \\"out\\"; echo err >&2; exit 3":\n')
    assert "out\n" in text and "err\n" in text


def test_a_connection_that_drops_is_not_an_exit_status(sshd: Sshd) -> None:
    with pytest.raises(Failure, match="wait: remote command exited without exit status or exit signal: running"):
        create(sshd.connection, create="kill -KILL $PPID")


def test_a_signal_is_reported(sshd: Sshd) -> None:
    with pytest.raises(Failure, match="Process exited with status 143 from signal TERM: running"):
        create(sshd.connection, create="exec sh -c 'kill -TERM $$'")


def test_stdin_that_is_not_read_fails_once_it_exceeds_the_window(sshd: Sshd) -> None:
    assert create(sshd.connection, create="true", stdin="x" * 100_000)["stdout"] == ""
    with pytest.raises(Failure, match="EOF: running"):
        create(sshd.connection, create="sleep 0.5", stdin="x" * 4_000_000)


def test_a_large_stdin_arrives_whole(sshd: Sshd) -> None:
    assert create(sshd.connection, create="wc -c", stdin="x" * 5_000_000)["stdout"] == "5000000"


def test_the_server_decides_about_environment_variables(sshd: Sshd) -> None:
    marker = sshd.directory / "ran"
    state = create(sshd.connection, create="echo $GREETING", environment={"GREETING": "hello"})
    assert state["stdout"] == "hello"
    with pytest.raises(Failure, match='could not set environment variable "OTHER": ssh: setenv failed'):
        create(sshd.connection, create=f"touch {marker}", environment={"OTHER": "x"})
    assert not marker.exists()


def test_previous_output_is_offered_and_a_refusal_only_warns(sshd: Sshd) -> None:
    output, olds = LogRecorder(), {"stdout": "before", "stderr": ""}
    command = {"create": "false", "update": "echo [$PULUMI_COMMAND_STDOUT]"}
    assert update(sshd.connection, output, olds, **command)["stdout"] == "[]"
    assert "WARNING Unable to set 'PULUMI_COMMAND_STDOUT'" in output.text
    quiet = LogRecorder()
    update(sshd.connection, quiet, olds, **command, addPreviousOutputInEnv=False)
    assert "WARNING" not in quiet.text


def test_lines_are_logged_as_they_come(sshd: Sshd) -> None:
    output = LogRecorder()
    create(sshd.connection, output, create="echo first; sleep 0.5; echo second >&2; sleep 0.2; printf last")
    assert [line for _, line, _ in output.lines] == ["INFO first", "INFO second", "INFO last"]
    assert output.lines[1][0] - output.lines[0][0] > 0.3
    assert all(status for _, _, status in output.lines)


@pytest.mark.parametrize(
    ("logging", "lines"),
    [
        ("stdout", ["INFO out"]),
        ("stderr", ["INFO err"]),
        ("stdoutAndStderr", ["INFO err", "INFO out"]),
        ("none", []),
    ],
)
def test_logging_chooses_streams(sshd: Sshd, logging: str, lines: list[str]) -> None:
    output = LogRecorder()
    state = create(sshd.connection, output, create="echo out; echo err >&2", logging=logging)
    assert sorted(line for _, line, _ in output.lines) == lines
    assert (state["stdout"], state["stderr"]) == ("out", "err")


def test_a_line_of_64_kib_would_hang_the_official_provider_unless_logging_is_off(sshd: Sshd) -> None:
    command = "head -c 70000 /dev/zero | tr '\\0' x"
    with pytest.raises(Failure, match="or more with logging on: the official command provider hangs here"):
        create(sshd.connection, create=command)
    assert len(create(sshd.connection, create=command, logging="none")["stdout"]) == 70000


def test_a_pinned_host_key_refuses_any_other(sshd: Sshd) -> None:
    marker = sshd.directory / "ran"
    other = make_key(sshd.directory / "other").with_suffix(".pub").read_text()
    wrong = {"hostKey": other, "dialErrorLimit": 1}
    with pytest.raises(Failure, match="after 1 failed attempts: ssh: handshake failed: ssh: host key mismatch"):
        create(sshd.connection | wrong, create=f"touch {marker}")
    assert not marker.exists()
    assert create({k: v for k, v in sshd.connection.items() if k != "hostKey"}, create="echo")["stdout"] == ""


def test_a_pinned_host_key_allows_only_its_own_algorithm(sshd: Sshd) -> None:
    other = make_key(sshd.directory / "other", "ecdsa").with_suffix(".pub").read_text()
    with pytest.raises(Failure, match="after 0 failed attempts: ssh: handshake failed"):
        create(sshd.connection | {"hostKey": other, "dialErrorLimit": 0}, create="true")


def test_a_wrong_user_key_is_a_dial_error(sshd: Sshd) -> None:
    other = make_key(sshd.directory / "other").read_text()
    with pytest.raises(Failure, match="after 0 failed attempts: ssh: handshake failed: ssh: unable to authenticate"):
        create(sshd.connection | {"privateKey": other, "dialErrorLimit": 0}, create="true")


def test_dialling_continues_until_a_server_appears(stopped_sshd: Sshd) -> None:
    output = LogRecorder()
    starting = threading.Timer(1, stopped_sshd.start)
    starting.start()
    try:
        assert create(stopped_sshd.connection, output, create="echo up")["stdout"] == "up"
    finally:
        starting.join()
        stopped_sshd.stop()
    assert "INFO Dial 1/10 failed: retrying" in output.text


def test_a_resources_timeout_counts_while_it_dials(stopped_sshd: Sshd) -> None:
    inputs = {"connection": stopped_sshd.connection, "create": "true"}
    with pytest.raises(Failure, match="context deadline exceeded"):
        run(_create(CommandProvider(LogRecorder()), inputs, timeout=0.5))


def test_a_command_that_runs_may_take_longer(sshd: Sshd) -> None:
    inputs = {"connection": sshd.connection, "create": "sleep 3; echo done"}
    assert run(_create(CommandProvider(LogRecorder()), inputs, timeout=2.5))["stdout"] == "done"


def test_dialling_ends_at_the_limit(stopped_sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "LONGEST_DELAY", 0.01)
    output = LogRecorder()
    with pytest.raises(Failure, match=r"after 10 failed attempts: dial tcp .* connect: connection refused"):
        create(stopped_sshd.connection, output, create="true")
    assert len(output.lines) == 10


def test_a_silent_server_would_hang_the_official_provider(stopped_sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "HANDSHAKE_LIMIT", 0.5)
    connection = stopped_sshd.connection
    silent = socket.create_server(("127.0.0.1", connection["port"]))
    with silent, pytest.raises(Failure, match="stayed silent: the official command provider hangs here"):
        create(connection, create="true")


def test_cancelling_ends_the_dialling(stopped_sshd: Sshd) -> None:
    async def cancelled() -> None:
        provider = CommandProvider(LogRecorder())
        inputs = {"connection": stopped_sshd.connection | {"dialErrorLimit": -1}, "create": "true"}
        creating = asyncio.create_task(_create(provider, inputs))
        await asyncio.sleep(0.3)
        await provider.cancel()
        process, _ = await asyncio.wait({creating}, timeout=5)
        assert process, "the provider is still dialling"
        await creating

    with pytest.raises(Failure, match="context canceled"):
        asyncio.run(cancelled())


def test_the_remote_process_outlives_a_dropped_connection(sshd: Sshd) -> None:
    marker = sshd.directory / "went-on"
    with pytest.raises(Failure, match="without exit status"):
        create(sshd.connection, create=f"sleep 0.3 && touch {marker} & kill -KILL $PPID; wait")
    subprocess.run(["timeout", "5", "sh", "-c", f"until test -e {marker}; do sleep 0.1; done"], check=True)


def check(**inputs: Any) -> list[str]:
    request = p.CheckRequest(URN, {}, plain_to_properties(inputs), b"")
    return [failure.property for failure in asyncio.run(CommandProvider(LogRecorder()).check(request)).failures or []]


def test_mistakes_are_named() -> None:
    assert check(create="true") == ["connection"]
    assert check(connection={"user": "x"}) == ["connection"]
    assert check(connection={"host": "x", "host_key": "y"}) == ["connection.host_key"]
    assert check(connection={"host": "x"}, logging="loud") == ["logging"]
    assert check(connection={"host": "x"}, created="x") == ["created"]


def test_other_resources_of_the_provider_are_refused() -> None:
    request = p.CheckRequest("urn:pulumi:dev::test::command:remote:CopyToRemote::it", {}, {}, b"")
    with pytest.raises(Failure, match="command:remote:CopyToRemote is not in this stand-in"):
        asyncio.run(CommandProvider(LogRecorder()).check(request))


def test_unknown_inputs_make_unknown_outputs_in_a_preview() -> None:
    olds = plain_to_properties({"create": "a", "stdin": "x", "stdout": "old", "stderr": ""})

    def preview(**news: Any) -> Any:
        request = p.UpdateRequest(URN, "it", olds, news, 0, [], True)
        return asyncio.run(CommandProvider(LogRecorder()).update(request)).properties["stdout"]

    assert preview(create=wrap("a"), stdin=UNKNOWN) == UNKNOWN
    assert preview(create=wrap("a"), stdin=wrap("y")) == UNKNOWN
    assert preview(create=wrap("a"), stdin=wrap("x"), environment=wrap({})) == wrap("old")
