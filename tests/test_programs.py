"""The programs of the rehearsal are the versions that were pinned, and the plugin offers what the program asks for."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pulumi
import pulumi_hcloud as hcloud
import pytest

from rehearsal.setup import image, programs

VERSIONS = {
    ("pulumi", "version"): "3.274.1",
    ("pulumi-resource-hcloud", "-version"): "1.43.3",
    ("headscale", "version"): f"headscale version v{image.pinned('headscale')}",
    ("tailscale", "version"): "1.102.5",
    ("tailscaled", "--version"): "1.102.5",
    ("sops", "--disable-version-check", "--version"): "sops 3.13.3",
    ("age-keygen", "--version"): "v1.3.2",
}

USED = {
    hcloud.Server: "name serverType image location labels sshKeys userData firewallIds publicNets "
    "deleteProtection rebuildProtection",
    hcloud.SshKey: "name publicKey labels",
    hcloud.Firewall: "name rules labels",
    hcloud.PrimaryIp: "name type location autoDelete labels",
}

ENGINE_SCRIPT = """#!/bin/sh
echo {version}
"""


@pytest.fixture(scope="module")
def schema(engine: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The schema that the real engine gets from the real plugin."""
    settings = {"PULUMI_HOME": str(tmp_path_factory.mktemp("home")), "PULUMI_SKIP_UPDATE_CHECK": "true"}
    command = [engine / "pulumi", "package", "get-schema", engine / "pulumi-resource-hcloud"]
    return json.loads(subprocess.run(command, env=os.environ | settings, capture_output=True, check=True).stdout)


def first_line(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]


@pytest.mark.parametrize("command", VERSIONS, ids=lambda command: command[0])
def test_reports_the_pinned_version(engine: Path, command: tuple[str, ...]) -> None:
    name, *arguments = command
    assert first_line(engine / name, *arguments) == VERSIONS[command]


def test_every_binary_needs_no_library_of_this_machine(engine: Path) -> None:
    binaries = [file for file in engine.iterdir() if file.read_bytes()[:4] == b"\x7fELF"]
    assert len(binaries) == 8
    for file in binaries:
        assert "not a dynamic executable" in subprocess.run(["ldd", file], capture_output=True, text=True).stderr


def test_what_was_built_is_not_built_again(engine: Path) -> None:
    lines: list[str] = []
    assert programs.build(lines.append) == engine
    assert lines == []


def test_the_plugin_has_every_resource_of_the_sdk(schema: dict[str, Any]) -> None:
    classes = [value for value in vars(hcloud).values() if isinstance(value, type)]
    resources = {c.pulumi_type for c in classes if issubclass(c, pulumi.CustomResource)}
    assert set(schema["resources"]) == resources - {"pulumi:providers:hcloud"}


@pytest.mark.parametrize("resource", USED, ids=lambda resource: resource.__name__)
def test_the_plugin_takes_what_the_program_sets(schema: dict[str, Any], resource: Any) -> None:
    inputs = schema["resources"][resource.pulumi_type]["inputProperties"]
    assert set(inputs) >= set(USED[resource].split())


@pytest.mark.parametrize("resource", USED, ids=lambda resource: resource.__name__)
def test_the_plugin_gives_what_the_sdk_reads(schema: dict[str, Any], resource: Any) -> None:
    """A number as an id, which upstream has and Pulumi has not, would show as one more property."""
    properties = schema["resources"][resource.pulumi_type]["properties"]
    read = {name for name, value in vars(resource).items() if isinstance(value, property)}
    assert {re.sub("(?=[A-Z])", "_", name).lower() for name in properties} == read


def install(engine: Path, version: str) -> tuple[Path, ...]:
    for name in programs.ENGINE:
        (engine / name).write_text(ENGINE_SCRIPT.format(version=version))
        (engine / name).chmod(0o755)
    return tuple(engine / name for name in programs.ENGINE)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("version", ["v3.272.0", "v3.300.1", "v4.0.0"])
def test_an_engine_on_path_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    files = install(tmp_path, version)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert programs.installed_engine() == files
    together = programs.build(print)
    try:
        assert first_line(together / "pulumi", "version") == version
    finally:
        shutil.rmtree(together)


def test_an_older_engine_on_path_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "v3.271.9")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert programs.installed_engine() == ()


def test_an_engine_without_its_language_host_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "v3.272.0")[-1].unlink()
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert programs.installed_engine() == ()


def test_without_go_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match=r"`go` is not on PATH; install Go 1\.26"):
        programs.build(print)
