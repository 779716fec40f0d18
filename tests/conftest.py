"""The fixtures of all tests: a test is marked by the most demanding one that it uses."""

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
import virtual_machine
from server_image import ServerImage, sample_system, sample_tree, server_image
from sshd import Sshd

from rehearsal import plugins
from rehearsal.setup import programs
from rehearsal.world import Prepared, prepare

pytest_plugins = ["mocked", "groups"]

PROGRAM = Path(__file__).parent / "plugins_program"


@pytest.fixture
def debian_disk(tmp_path: Path) -> Path:
    """A disk of the test's own, from which a virtual machine boots Debian."""
    return virtual_machine.debian_disk(tmp_path / "disk")


@pytest.fixture(scope="session")
def world() -> Prepared:
    """The parts of worlds; each test, or module, makes its own."""
    return prepare(print)


@pytest.fixture(scope="session")
def server() -> ServerImage:
    """One image for all tests of a process: what one has built, the next need not build again."""
    return server_image()


@pytest.fixture(scope="session")
def tree(server: ServerImage) -> str:
    """The path of nix/ with its sample data, in the image."""
    return sample_tree()


@pytest.fixture(scope="session")
def system(server: ServerImage) -> str:
    """The store path of the system that the sample data makes."""
    return sample_system()


@pytest.fixture(scope="session")
def engine() -> Path:
    """The directory of the programs that are built with Go: pulumi, sops, headscale."""
    return programs.build(print)


@dataclass(frozen=True)
class PluginsProgram:
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
        in_state = json.loads(self.state())["checkpoint"]["latest"].get("resources", [])
        return {resource["urn"].rsplit("::", 1)[1]: resource for resource in in_state}


@pytest.fixture
def project(tmp_path: Path, engine: Path) -> PluginsProgram:
    """PULUMI_HOME, the state and the program lie in the test's own directory."""
    directory, home = tmp_path / "project", tmp_path / "home"
    shutil.copytree(PROGRAM, directory)
    (directory / "state").mkdir()
    plugins.install(home, Path(sys.executable))
    path = [Path(sys.executable).parent, engine, os.environ["PATH"]]
    project = PluginsProgram(
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
def stopped_sshd(tmp_path: Path) -> Sshd:
    """An sshd with its keys and its port, which nothing listens on."""
    return Sshd.prepare(tmp_path)


@pytest.fixture
def sshd(stopped_sshd: Sshd) -> Iterator[Sshd]:
    stopped_sshd.start()
    stopped_sshd.await_listening()
    yield stopped_sshd
    stopped_sshd.stop()
