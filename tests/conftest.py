"""Fixtures: a scratch project that the real engine runs, and a real sshd."""

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sshd import Sshd

from rehearsal import plugins, programs

pytest_plugins = ["mocked"]

PROGRAM = Path(__file__).parent / "plugins_program"


@dataclass(frozen=True)
class Project:
    """A copy of plugins_program with a file backend and a random passphrase of its own."""

    directory: Path
    environment: dict[str, str]

    def describe(self, resources: dict[str, Any], **more: Any) -> None:
        (self.directory / "resources.json").write_text(json.dumps({"resources": resources, **more}))

    def run(self, verb: str, *flags: str, expect: int = 0) -> str:
        """Everything that `pulumi verb` printed; how it ends must be as expected."""
        command = ["pulumi", verb, "--non-interactive", "--color", "never", *flags]
        with subprocess.Popen(
            command,
            cwd=self.directory,
            env=self.environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            output = process.communicate(timeout=300)[0]
        assert process.returncode == expect, f"{command} ended with {process.returncode}:\n{output}"
        return output

    def up(self, *flags: str, expect: int = 0) -> str:
        return self.run("up", "--yes", "--skip-preview", *flags, expect=expect)

    def preview(self, *flags: str, expect: int = 0) -> str:
        return self.run("preview", "--diff", *flags, expect=expect)

    def outputs(self) -> dict[str, Any]:
        return json.loads(self.run("stack", "output", "--json"))

    def state(self) -> str:
        """The state as it lies on the disk."""
        return (self.directory / "state/.pulumi/stacks/plugins/dev.json").read_text()

    def resources(self) -> dict[str, Any]:
        found = json.loads(self.state())["checkpoint"]["latest"].get("resources", [])
        return {resource["urn"].rsplit("::", 1)[1]: resource for resource in found}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """PULUMI_HOME, the state and the program lie in the test's own directory."""
    directory, home = tmp_path / "project", tmp_path / "home"
    shutil.copytree(PROGRAM, directory)
    (directory / "state").mkdir()
    plugins.install(home, Path(sys.executable))
    path = [Path(sys.executable).parent, programs.build(print), os.environ["PATH"]]
    project = Project(
        directory,
        os.environ
        | {
            "PATH": ":".join(map(str, path)),
            "PULUMI_HOME": str(home),
            "PULUMI_BACKEND_URL": f"file://{directory / 'state'}",
            "PULUMI_CONFIG_PASSPHRASE": secrets.token_urlsafe(),
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "PULUMI_IGNORE_AMBIENT_PLUGINS": "true",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
        },
    )
    project.run("stack", "init", "dev")
    return project


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    server = Sshd.prepare(tmp_path)
    server.start()
    server.await_listening()
    yield server
    server.stop()
