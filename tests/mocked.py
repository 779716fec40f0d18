"""The whole program under mocks: `program` runs __main__.py, `recorded` is what it asked of the providers."""

import asyncio
import json
import runpy
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import asyncssh
import pulumi
import pytest
import yaml
from pulumi.runtime import mocks, rpc, settings
from pulumi.runtime.proto.callback_pb2 import Callback
from pulumi.runtime.proto.resource_pb2 import RESOURCE_MONITOR_FEATURE_TRANSFORMS
from pyrage import x25519

PROGRAM = Path(__file__).resolve().parent.parent
SECRET = rpc._special_sig_key

Inputs = dict[str, dict]


def private_key() -> str:
    return asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()


# Opens secrets.yaml, which sops wrote, and nothing else.
HOST = x25519.Identity.from_str("AGE-SECRET-KEY-1S84R85TCX9F472AKC6MXR62740850C4P4FQ87ZHH3VQ0GFGW22SSGGUN0H")
SECRETS = {"deployKey": private_key(), "sshHostKey": private_key(), "hostAgeKey": str(HOST)}


SOPS_VALUES = {
    "headscale_noise_private_key": f"privkey:{'0123456789abcdef' * 4}",
    "headscale_api_key": f"hskey-api-{'a1B2-_' * 2}-{'c3D4-_ef' * 8}",
}


def _place(name: str, available: bool = True) -> dict:
    return {"name": name, "available": available, "unavailableAfter": ""}


def _server_type(name: str, architecture: str, memory: float, disk: int, *places: dict) -> dict:
    return {"name": name, "architecture": architecture, "memory": memory, "disk": disk, "locations": places}


# Every kind that a stack may ask for.
SERVER_TYPES = [
    _server_type("cx23", "x86", 4.0, 40, _place("nbg1"), _place("hel1"), _place("fsn1", available=False)),
    _server_type("cx33", "x86", 8.0, 80, _place("nbg1")),
    _server_type("cpx11", "x86", 2.0, 40, _place("nbg1"), _place("ash")),
    _server_type("cax11", "arm", 4.0, 40, _place("nbg1")),
    _server_type("cx22", "x86", 4.0, 40, _place("nbg1") | {"unavailableAfter": "2026-02-01T00:00:00Z"}),
]
SERVER = {
    "name": "prod-headscale",
    "serverType": "cx23",
    "location": "nbg1",
    "status": "running",
    "ipv4Address": "203.0.113.10",
    "ipv6Address": "2001:db8:10::1",
    "primaryDiskSize": 40,
}


class NoCallbacks:
    """In the place of the server that an engine asks for transforms of resources; the mocks never ask."""

    def register_transform(self, transform: object) -> Callback:
        return Callback()


class Recorder(mocks.Mocks):
    """Remembers each resource's inputs; answers as a cloud with one zone and one server would."""

    def __init__(self, inputs: Inputs, servers: list[dict]) -> None:
        self.inputs, self.servers = inputs, servers

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict]:
        self.inputs[args.name] = args.inputs
        outputs = {
            "hcloud:index/primaryIp:PrimaryIp": {
                "ipAddress": "203.0.113.10",
                "ipNetwork": "2001:db8:10::/64",
            },
            "hcloud:index/server:Server": {"ipv4Address": "203.0.113.10"},
            "command:remote:Command": {"stdout": json.dumps({"generation": 1, "key": "k", "expiresAt": "t"})},
        }
        return "7", args.inputs | outputs.get(args.typ, {})

    def call(self, args: mocks.MockCallArgs) -> dict:
        if args.token == "cloudflare:index/getZone:getZone":
            return {"zoneId": "z1", "name": args.args["filter"]["name"]}
        return {
            "hcloud:index/getServerTypes:getServerTypes": {"serverTypes": SERVER_TYPES},
            "hcloud:index/getServers:getServers": {"servers": self.servers},
        }[args.token]


@pytest.fixture
def recorded() -> Inputs:
    """The inputs of the last run's resources, also when it ended with an error."""
    return {}


@pytest.fixture(scope="session")
def secrets_file() -> Path:
    """A SOPS file that the stack's server opens."""
    return PROGRAM / "tests/secrets.yaml"


@pytest.fixture
def sops_file(engine: Path) -> Callable[..., Path]:
    """Writes a file by the real sops, encrypted to age `recipients`; `rule` adds lines to the rule that it follows."""

    def write(path: Path, values: Mapping[str, object], *recipients: str, rule: str = "") -> Path:
        config = path.with_suffix(".sops.yaml")
        config.write_text(f"creation_rules:\n  - age: {','.join(recipients)}\n{rule}")
        types = ("--input-type", "json", "--output-type", "yaml", "--filename-override", str(path))
        command = [engine / "sops", "--config", config, "encrypt", *types, "/dev/stdin"]
        process = subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=True)
        path.write_text(process.stdout)
        return path

    return write


@pytest.fixture
def event_loop_of_the_thread() -> Iterator[None]:
    """Pulumi takes the thread's event loop, which another test may have closed."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    # A program that ends by a refusal leaves its tasks unfinished.
    pending = asyncio.all_tasks(loop)
    for task in pending:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
    loop.close()


@pytest.fixture
def program(
    recorded: Inputs, event_loop_of_the_thread: None, monkeypatch: pytest.MonkeyPatch, secrets_file: Path
) -> Iterator[Callable[..., Inputs]]:
    """Runs __main__.py with a configuration; returns every resource's inputs by name."""
    monkeypatch.chdir(PROGRAM)
    monkeypatch.setenv("HCLOUD_TOKEN", "t" * 64)
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", "t" * 40)
    monkeypatch.syspath_prepend(str(PROGRAM))
    facts: dict = {
        "confirmedDigest": "",
        "confirmedToken": "",
        "deploysBegun": 0,
        "drift": [],
        "warnings": [],
        "seenFrom": "203.0.113.7",
        "names": {},
        "devices": {},
        "policyDigest": "",
        "verdict": (0, ""),
    }

    async def answer(*_: object) -> dict:
        return facts

    def run(
        host: dict | None = None,
        server: dict | None = None,
        stack: str = "prod",
        in_clear: tuple[str, ...] = (),
        **config: object,
    ) -> Inputs:
        """`host` are facts of it, `server` are properties of one that Hetzner has, `in_clear` are keys of secrets."""
        facts.update({"users": {}} | (host or {}))
        recorder = Recorder(recorded, [SERVER | server] if server is not None else [])
        mocks.set_mocks(recorder, project="headscale", stack=stack, preview=False)
        settings.SETTINGS.monitor_features.add(RESOURCE_MONITOR_FEATURE_TRANSFORMS)
        settings.SETTINGS.callbacks = NoCallbacks()
        values = defaults() | SECRETS | {"domain": "example.org", "acmeEmail": "a@example.org"}
        values |= {"secretsFile": str(secrets_file)} | config
        texts = {f"headscale:{k}": v if isinstance(v, str) else json.dumps(v) for k, v in values.items()}
        secrets = {*SECRETS, "formerDeployKey"} - set(in_clear)
        pulumi.runtime.set_all_config(texts, secret_keys=[f"headscale:{key}" for key in secrets])
        from components import host_facts

        monkeypatch.setattr(host_facts, "_ask", answer)
        monkeypatch.setattr(signal, "signal", lambda *_: None)
        _run_to_the_end(lambda: runpy.run_path("__main__.py"))
        return recorder.inputs

    yield run
    settings.reset_options()


def _run_to_the_end(body: Callable[[], object]) -> None:
    @pulumi.runtime.test
    def wrapped() -> None:
        body()

    wrapped()


def defaults() -> dict[str, object]:
    declared = yaml.safe_load((PROGRAM / "Pulumi.yaml").read_text())["config"]
    return {key: entry["default"] for key, entry in declared.items() if "default" in entry}
