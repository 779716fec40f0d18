"""Shared by the operator's commands: the stack's configuration, running programs, a lock, files replaced at once."""

import fcntl
import json
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).resolve().parent.parent
INSTALL = {
    "pulumi": "`curl -fsSL https://get.pulumi.com | sh`, or see https://www.pulumi.com/docs/install/",
    "tailscale": "see https://tailscale.com/download",
    "tailscaled": "it comes with Tailscale on Linux; on macOS `brew install tailscale` brings it",
    "sops": "`brew install sops` or `nix profile install nixpkgs#sops`, or see https://getsops.io",
}
LAST_COMMAND = 60


class Refused(Exception):
    """The command cannot continue: what was attempted, what was in the way, what to do."""


class StackSettings:
    """The stack's configuration, through pulumi, which encrypts and decrypts its secrets."""

    def __init__(self, name: str | None, config_file: Path | None) -> None:
        self.name = (name or run("pulumi", "--non-interactive", "stack", "--show-name").strip()).rpartition("/")[2]
        self.config_file = config_file or PROGRAM / f"Pulumi.{self.name}.yaml"
        self._flags = ["--stack", name or self.name, *(["--config-file", str(config_file)] if config_file else [])]
        self._settings = json.loads(self._config("--json"))

    @property
    def secrets_file(self) -> Path:
        configured = self._settings.get("headscale:secretsFile", {}).get("value")
        return Path(configured or f"nix/secrets/{self.name}.yaml")

    def values(self) -> dict[str, Any]:
        """All settings by their full names, secrets in clear; lists as lists."""
        settings = json.loads(self._config("--json", "--show-secrets"))
        return {key: setting.get("objectValue", setting["value"]) for key, setting in settings.items()}

    def state(self) -> dict[str, Any]:
        """The stack's state, secrets encrypted; empty before the first `pulumi up`."""
        state = json.loads(run("pulumi", "--non-interactive", "stack", "export", "--stack", self._flags[1]))
        return state.get("deployment") or {}

    def has_server(self) -> bool:
        """True where the stack's state has a server."""
        resources = self.state().get("resources") or []
        return any(resource["type"] == "hcloud:index/server:Server" for resource in resources)

    def outputs(self, show_secrets: bool = False) -> dict[str, Any]:
        """The stack's outputs; secret ones only when asked for."""
        flags = ["--show-secrets"] if show_secrets else []
        output = run("pulumi", "--non-interactive", "stack", "output", "--json", "--stack", self._flags[1], *flags)
        outputs: dict[str, Any] = json.loads(output)
        return outputs

    def entries(self, key: str) -> list[str]:
        """The values of a key that holds a list."""
        entries: list[str] = self._settings.get(f"headscale:{key}", {}).get("objectValue", [])
        return entries

    def has(self, key: str) -> bool:
        """True where the key has a value; an empty one is the project's default, and a secret's is not shown."""
        return bool(self._settings.get(f"headscale:{key}", {"value": ""}).get("value") != "")

    def sets(self, key: str) -> bool:
        """True where the stack's own file has the key, and not just the program a default."""
        import yaml

        text = self.config_file.read_text() if self.config_file.exists() else ""
        return f"headscale:{key}" in ((yaml.safe_load(text) or {}).get("config") or {})

    def value(self, key: str) -> str:
        """The value of a key that is not secret, also of an entry of a list; empty where there is none."""
        name, _, index = key.removesuffix("]").partition("[")
        setting = self._settings.get(name if ":" in name else f"headscale:{name}", {})
        if not index:
            return str(setting.get("value", ""))
        return str([*setting.get("objectValue", []), *[""] * (int(index) + 1)][int(index)])

    def get(self, key: str) -> str:
        return self._config("get", f"headscale:{key}")

    def set(self, key: str, value: str, secret: bool = True) -> None:
        """Set a key, or with its index an entry of a list."""
        flags = ["--secret" if secret else "--plaintext", *(["--path"] if "[" in key else [])]
        self._config("set", *flags, f"headscale:{key}", stdin=value)

    def _config(self, *arguments: str, stdin: str = "") -> str:
        return run("pulumi", "--non-interactive", "config", *self._flags, *arguments, stdin=stdin)


def run(*command: str, stdin: str = "", environment: Mapping[str, str] | None = None) -> str:
    """The output of the program; Refused, with its own words, where it fails.

    `stdin`, a few kilobytes, is in the pipe before the program starts: it never reads less because we were killed.
    """
    reading, writing = os.pipe()
    os.write(writing, stdin.encode())
    os.close(writing)
    with open(reading) as pipe:
        process = subprocess.run(command, stdin=pipe, env=environment, capture_output=True, text=True, close_fds=False)
    if process.returncode:
        raise Refused(f"`{shlex.join(command)}` ended with {process.returncode}: {process.stderr.strip()}")
    return process.stdout


def require(*programs: str) -> None:
    absent = [f"`{name}` is not on PATH; {INSTALL[name]}" for name in programs if not shutil.which(name)]
    if absent:
        raise Refused("\n".join(absent))


@contextmanager
def exclusive_lock(directory: Path) -> Iterator[None]:
    """Hold the lock of this directory: other commands on its stacks wait.

    The programs that are run inherit the lock: one that outlives a killed command keeps the next one waiting.
    """
    lock = os.open(directory, os.O_RDONLY)
    os.set_inheritable(lock, True)
    deadline = time.monotonic() + LAST_COMMAND
    try:
        while not _locked(lock):
            if time.monotonic() > deadline:
                raise Refused(f"another command still works in {directory} after {LAST_COMMAND} s; wait for its end")
            time.sleep(0.05)
        yield
    finally:
        os.close(lock)


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A file to write, which replaces `path` at once when the block ends without an error."""
    new = path.with_name(f".new-{path.name}")
    try:
        yield new
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def as_typed(path: Path) -> str:
    """The path as the operator would type it."""
    return str(path.relative_to(PROGRAM) if path.is_relative_to(PROGRAM) else path)
