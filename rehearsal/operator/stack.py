"""The operator's side: the `pulumi` command with the program of this repository and a stack of its own.

The state is a file below the run's directory; what a command did to resources is read from the event log.
"""

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rehearsal.sandbox.processes import check

PROGRAM = Path(__file__).resolve().parents[2]
NAME = "rehearsal"
# Of what pulumi prints line by line, the operations that ended and the product's own words.
PROGRESS = re.compile(r" (created|updated|deleted|replaced) \(\d|failed\*\*|warning: |become-nixos: |activat")
# What Pulumi's Python host adds to a failure, and what no operator should have to read.
NOISE = re.compile("Traceback|KeyboardInterrupt|an unhandled error occurred")
WIDTH = 150
UNCHANGED = {"same", "refresh", "read", "read-discard"}


@dataclass(frozen=True)
class Outcome:
    """The end of a command of pulumi: its exit status, all it printed, and the operations by resource name."""

    code: int
    output: str
    operations: dict[str, str]

    def changed(self) -> dict[str, str]:
        """The operations that were not merely a look, by resource name."""
        return {name: operation for name, operation in self.operations.items() if operation not in UNCHANGED}


class PulumiFailed(Exception):
    """A command ended with another status than expected; the text ends with what it printed."""


class Stack:
    """One stack of the program, made from Pulumi.rehearsal.yaml.

    `program` is the directory of the program that is run; `flags` are given to each up, preview and destroy; `printed`
    is all that these have printed.
    """

    def __init__(
        self,
        directory: Path,
        programs: Path,
        plugins: Path,
        say: Callable[[str], None] = lambda line: None,
        program: Path = PROGRAM,
    ) -> None:
        self.directory = directory
        self.program = program
        self.config_file = directory / f"Pulumi.{NAME}.yaml"
        self._say = say
        self.flags: tuple[str, ...] = ()
        self.printed: list[str] = []
        self._commands = 0
        self._events = directory / "no-events.json"
        self._running: subprocess.Popen[str] | None = None
        self._stack = ("--stack", NAME, "--config-file", str(self.config_file))
        (directory / "state").mkdir(parents=True)
        temporary = directory.with_name("tmp")
        temporary.mkdir(exist_ok=True)
        for name in ("Pulumi.yaml", self.config_file.name):
            shutil.copy(program / name, directory)
        self.environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{programs}:{os.environ['PATH']}",
            "PULUMI_HOME": str(plugins),
            "PULUMI_BACKEND_URL": f"file://{directory / 'state'}",
            "PULUMI_CONFIG_PASSPHRASE": secrets.token_urlsafe(),
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_IGNORE_AMBIENT_PLUGINS": "true",
            # `--event-log` is a flag for debugging.
            "PULUMI_DEBUG_COMMANDS": "true",
            "PULUMI_ERROR_OUTPUT_STRING": "1",
            "SOPS_CONFIG": str(directory / ".sops.yaml"),
            "SOPS_AGE_KEY_FILE": str(directory / "age-keys.txt"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TMPDIR": str(temporary),
            "HCLOUD_TOKEN": secrets.token_hex(32),
            "CLOUDFLARE_API_TOKEN": secrets.token_hex(20),
        }
        # `stack init` has no --config-file: beside the copies it writes the new salt into the copy.
        self._plain("stack", "init", NAME, cwd=directory)
        self.set("secretsFile", str(directory / "secrets.yaml"))

    def set(self, key: str, *values: str, secret: bool = False, as_list: bool = False) -> None:
        """Set a key of the program's configuration to one value, or to a list of any number of them."""
        name = f"headscale:{key}"
        if not as_list:
            self.config("set", "--secret" if secret else "--plaintext", name, stdin=values[0])
            return
        self.config("rm", name)
        for index, value in enumerate(values):
            self.config("set", "--plaintext", "--path", f"{name}[{index}]", stdin=value)

    def unset(self, key: str) -> None:
        self.config("rm", f"headscale:{key}")

    def lay_over_settings(self) -> None:
        """Lay the stack's settings over the checked-in ones, in the capsule only; --config-file is not needed then."""
        check(["mount", "--bind", str(self.config_file), str(PROGRAM / self.config_file.name)])

    def make_secrets(self) -> None:
        """Make the keys and secrets by scripts/init, as the operator does."""
        self._command(str(self.program / "scripts/init"), *self._stack)

    def rotate(self, key: str) -> str:
        """Rotate a key by scripts/rotate, as the operator does; return its output."""
        return self._command(str(self.program / "scripts/rotate"), key, *self._stack)

    def join_page(self, user: str, *arguments: str) -> str:
        """Write the page of scripts/join, as the operator does; return its output."""
        return self._command(str(self.program / "scripts/join"), user, "--stack", NAME, *arguments)

    def host_facts(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Ask the server by scripts/host-facts, which needs neither the stack nor its secrets."""
        script, path = str(self.program / "scripts/host-facts"), self.environment["PATH"]
        return subprocess.run([script, *arguments], env={"PATH": path}, capture_output=True, text=True)

    def doctor(self, address: str) -> str:
        """The lines of scripts/doctor for an operator at this address; none of them fails."""
        return self._command(str(self.program / "scripts/doctor"), *self._stack, "--address", address)

    def verify(self, *flags: str) -> subprocess.Popen[str]:
        """Begin to look at the server by scripts/verify, as the operator does."""
        return subprocess.Popen(
            [str(self.program / "scripts/verify"), *self._stack, *flags],
            env=self.environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def nightly(self, *flags: str, expect: int = 0) -> str:
        """Compare by scripts/nightly, as cron does; return all it printed."""
        command = [str(self.program / "scripts/nightly"), *self._stack, *flags]
        process = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        if process.returncode != expect:
            raise PulumiFailed(f"scripts/nightly ended with {process.returncode}:\n{process.stdout}{process.stderr}")
        return process.stdout + process.stderr

    def opens(self, identity: str) -> bool:
        """True where this age identity alone opens the SOPS file."""
        environment = self.environment | {"SOPS_AGE_KEY": identity, "SOPS_AGE_KEY_FILE": "/dev/null"}
        decrypt = ["sops", "decrypt", str(self.directory / "secrets.yaml")]
        return subprocess.run(decrypt, env=environment, capture_output=True).returncode == 0

    def secrets(self) -> dict[str, str]:
        """The secrets of the stack's configuration, and what its SOPS file holds, by their names."""
        settings = json.loads(self.config("--json", "--show-secrets"))
        matches = {key: setting["value"] for key, setting in settings.items() if setting["secret"]}
        sops_file = str(self.directory / "secrets.yaml")
        values: dict[str, str] = json.loads(self._command("sops", "decrypt", "--output-type", "json", sops_file))
        return matches | values

    def config(self, *arguments: str, stdin: str = "") -> str:
        """The output of `pulumi config`."""
        return self._plain("config", *self._stack, *arguments, stdin=stdin)

    def up(self, expect: int = 0) -> Outcome:
        return self._run("up", "--yes", "--skip-preview", expect=expect)

    @contextmanager
    def lost_answers(self, *names: str) -> Iterator[None]:
        """The host carries out the commands of these resources, and the connection is lost before the answer."""
        self.environment["REHEARSAL_LOST_ANSWERS"] = " ".join(names)
        try:
            yield
        finally:
            del self.environment["REHEARSAL_LOST_ANSWERS"]

    def has_begun(self, name: str) -> bool:
        """True where the command under way has begun to do something to the resource of this name."""
        return name in dict(_operations(self._events))

    def kill(self) -> None:
        """End the command under way as a power cut would, and release its lock on the state."""
        self.end_at_once()
        self._plain("cancel", "--yes", "--stack", NAME)

    def end_at_once(self) -> None:
        """End the command under way as a power cut would; its lock on the state stays."""
        assert self._running
        self._running.kill()
        self._running.wait()

    def preview(self, *flags: str, expect: int = 0) -> Outcome:
        return self._run("preview", *flags, expect=expect)

    def destroy(self, expect: int = 0) -> Outcome:
        return self._run("destroy", "--yes", "--skip-preview", expect=expect)

    def outputs(self) -> dict[str, Any]:
        outputs: dict[str, Any] = json.loads(
            self._plain("stack", "output", "--json", "--show-secrets", "--stack", NAME)
        )
        return outputs

    def _run(self, verb: str, *flags: str, expect: int = 0) -> Outcome:
        self._commands += 1
        events = self._events = self.directory / f"events-{self._commands}-{verb}.json"
        command = [
            *("pulumi", verb, "--non-interactive", "--suppress-progress", "--color", "never"),
            *(*self._stack, "--event-log", str(events), *self.flags, *flags),
        ]
        lines = []
        process = self._running = subprocess.Popen(
            command,
            cwd=self.program,
            env=self.environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.stdout
        with process.stdout as printed:
            for line in printed:
                lines.append(line)
                if PROGRESS.search(line):
                    self._say(line.strip()[:WIDTH])
        self.printed += lines
        outcome = Outcome(process.wait(), "".join(lines), dict(_operations(events)))
        if outcome.code != expect:
            raise PulumiFailed(f"pulumi {verb} ended with {outcome.code}, expected {expect}:\n{outcome.output[-4000:]}")
        if noise := NOISE.search(outcome.output):
            raise PulumiFailed(f"pulumi {verb} did not end with the program's own words: {noise[0]}\n{outcome.output}")
        return outcome

    def _plain(self, *arguments: str, stdin: str = "", cwd: Path | None = None) -> str:
        return self._command("pulumi", "--non-interactive", *arguments, stdin=stdin, cwd=cwd)

    def _command(self, *command: str, stdin: str = "", cwd: Path | None = None) -> str:
        cwd = cwd or self.program
        process = subprocess.run(command, cwd=cwd, env=self.environment, input=stdin, capture_output=True, text=True)
        if process.returncode:
            raise PulumiFailed(f"{' '.join(command)} ended with {process.returncode}:\n{process.stderr}")
        return process.stdout


def _operations(events: Path) -> Iterator[tuple[str, str]]:
    """Each resource's name with what was done to it, or was to be done; a replacement counts as `replace`."""
    for line in events.read_text().splitlines() if events.exists() else []:
        step = json.loads(line).get("resourcePreEvent", {}).get("metadata")
        if step:
            operation = "replace" if "replace" in step["op"] else step["op"]
            yield step["urn"].rsplit("::", 1)[1], operation
