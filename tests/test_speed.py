"""The measures that keep a preview short change nothing of what the program asks for."""

import importlib.metadata
import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.struct_pb2 import Struct
from pulumi.runtime import mocks, rpc

PROGRAM = Path(__file__).resolve().parent.parent
SLOW = {"pulumi_cloudflare", "asyncssh", "cryptography"}
LOADED = "import json, sys, config, components; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"


def test_the_program_starts_without_the_modules_that_take_long_to_load():
    command = [sys.executable, "-c", LOADED]
    process = subprocess.run(command, cwd=PROGRAM, check=True, capture_output=True, text=True)
    loaded = set(json.loads(process.stdout))
    assert {"pulumi_hcloud", "components"} <= loaded
    assert loaded & SLOW == set()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """The requests to the engine for Cloudflare: type or function, name, version, values."""
    calls: list[tuple] = []
    register, invoke = mocks.MockMonitor.RegisterResource, mocks.MockMonitor.Invoke

    def note(token: str, name: str, version: str, values: Struct) -> None:
        if token.startswith("cloudflare:"):
            calls.append((token, name, version, json.dumps(rpc.deserialize_properties(values), sort_keys=True)))

    def registering(self: mocks.MockMonitor, request):
        note(request.type, request.name, request.version, request.object)
        return register(self, request)

    def invoking(self: mocks.MockMonitor, request):
        note(request.tok, "", request.version, request.args)
        return invoke(self, request)

    monkeypatch.setattr(mocks.MockMonitor, "RegisterResource", registering)
    monkeypatch.setattr(mocks.MockMonitor, "Invoke", invoking)
    return calls


def test_cloudflare_is_asked_for_the_same_as_by_its_own_package(program, sent, monkeypatch: pytest.MonkeyPatch):
    inputs, ours = dict(program()), sorted(sent)
    sent.clear()

    import pulumi_cloudflare

    from components import dns

    monkeypatch.setattr(dns, "cloudflare", pulumi_cloudflare)
    assert program() == inputs
    assert sorted(sent) == ours
    assert len(ours) == 5, "four records and a look-up"


def test_another_major_version_of_the_package_is_refused(monkeypatch: pytest.MonkeyPatch):
    from components import cloudflare

    monkeypatch.setattr(importlib.metadata, "version", lambda name: "7.0.0")
    with pytest.raises(ImportError, match=r"pulumi-cloudflare 6\.x and 7\.0\.0 is installed"):
        runpy.run_path(str(cloudflare.__file__))
