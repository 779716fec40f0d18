"""The operator's side: the `pulumi` command with the program of this repository, a file backend, a passphrase.

What a command printed is kept in `directory`/log; what it did to resources is read from the engine's event log.
"""

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

PROGRAM = Path(__file__).resolve().parent.parent
NAME = "rehearsal"
UNCHANGED = {"same", "refresh", "read", "read-discard"}


@dataclass(frozen=True)
class Outcome:
    """How a command of pulumi ended: its exit status, all it printed, and the operations by resource name."""

    code: int
    output: str
    operations: dict[str, str]

    def changed(self) -> dict[str, str]:
        """The operations that were not merely a look, by resource name."""
        return {name: operation for name, operation in self.operations.items() if operation not in UNCHANGED}


class PulumiFailed(Exception):
    """A command of pulumi ended with another status than expected; the text ends with what it printed."""


class Stack:
    """One stack of the program, made from Pulumi.rehearsal.yaml."""

    def __init__(
        self, directory: Path, programs: Path, plugins: Path, say: Callable[[str], None] = lambda line: None
    ) -> None:
        self.directory = directory
        self.config_file = directory / f"Pulumi.{NAME}.yaml"
        self._say = say
        self._commands = 0
        (directory / "state").mkdir(parents=True)
        shutil.copy(PROGRAM / self.config_file.name, self.config_file)
        self.environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{programs}:{os.environ['PATH']}",
            "PULUMI_HOME": str(plugins),
            "PULUMI_BACKEND_URL": f"file://{directory / 'state'}",
            "PULUMI_CONFIG_PASSPHRASE": secrets.token_urlsafe(),
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_ERROR_OUTPUT_STRING": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "HCLOUD_TOKEN": secrets.token_hex(32),
            "CLOUDFLARE_API_TOKEN": secrets.token_hex(20),
        }
        self._plain("stack", "init", NAME, "--config-file", str(self.config_file))

    def set(self, key: str, *values: str, secret: bool = False) -> None:
        """Set a key of the program's configuration; several values, or none, make a list."""
        flags = ["--config-file", str(self.config_file), "--stack", NAME]
        if len(values) == 1:
            kind = "--secret" if secret else "--plaintext"
            self._plain("config", "set", kind, *flags, f"headscale:{key}", stdin=values[0])
            return
        self._plain("config", "rm", *flags, f"headscale:{key}")
        for index, value in enumerate(values):
            self._plain(
                "config", "set", "--plaintext", "--path", *flags, f"headscale:{key}[{index}]", stdin=value
            )

    def up(self, expect: int = 0) -> Outcome:
        return self._run("up", "--yes", "--skip-preview", expect=expect)

    def preview(self, *flags: str, expect: int = 0) -> Outcome:
        return self._run("preview", *flags, expect=expect)

    def destroy(self) -> Outcome:
        return self._run("destroy", "--yes", "--skip-preview")

    def outputs(self) -> dict:
        return json.loads(self._plain("stack", "output", "--json", "--show-secrets", "--stack", NAME))

    def _run(self, verb: str, *flags: str, expect: int = 0) -> Outcome:
        self._commands += 1
        events = self.directory / f"events-{self._commands}-{verb}.json"
        command = [
            *("pulumi", verb, "--non-interactive", "--color", "never", "--stack", NAME),
            *("--config-file", str(self.config_file), "--event-log", str(events), *flags),
        ]
        lines = []
        process = subprocess.Popen(
            command,
            cwd=PROGRAM,
            env=self.environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.stdout
        for line in process.stdout:
            lines.append(line)
            self._say(line.rstrip())
        outcome = Outcome(process.wait(), "".join(lines), dict(_operations(events)))
        if outcome.code != expect:
            raise PulumiFailed(
                f"pulumi {verb} ended with {outcome.code}, expected {expect}:\n{outcome.output[-4000:]}"
            )
        return outcome

    def _plain(self, *arguments: str, stdin: str = "") -> str:
        command = ["pulumi", "--non-interactive", *arguments]
        done = subprocess.run(
            command, cwd=PROGRAM, env=self.environment, input=stdin, capture_output=True, text=True
        )
        if done.returncode:
            raise PulumiFailed(f"pulumi {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}")
        return done.stdout


def _operations(events: Path) -> Iterator[tuple[str, str]]:
    """Each resource's name with what was done to it, or was to be done; a replacement counts as `replace`."""
    for line in events.read_text().splitlines() if events.exists() else []:
        step = json.loads(line).get("resourcePreEvent", {}).get("metadata")
        if step:
            yield step["urn"].rsplit("::", 1)[1], step["op"]
