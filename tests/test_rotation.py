"""While keys change, each connection has the ones that the server takes."""

import asyncio
import base64
import io
import re
import tarfile
from collections.abc import Callable
from functools import partial

import asyncssh
import pulumi
import pytest
from mocked import SECRET, SECRETS, Inputs, private_key
from sshd import Sshd

from components import rotation
from components.rotation import AcceptedKeys

FORMER = private_key()
ONCE = ("nixos-convert", "nixos-booted", "nixos-keys")


def public(private: str) -> str:
    return asyncssh.import_private_key(private).export_public_key().decode().strip()


FORMER_HOST = public(private_key())
NEW = (SECRETS["deployKey"], public(SECRETS["sshHostKey"]))


def connections(inputs: Inputs) -> dict[str, tuple[str, str]]:
    """The private key and the expected host key of each Command."""
    matches = {name: values["connection"] for name, values in inputs.items() if "connection" in values}
    plain = {name: values.get("value", values) for name, values in matches.items()}
    return {name: (text(values["privateKey"]).strip(), text(values["hostKey"])) for name, values in plain.items()}


def text(value: str | dict) -> str:
    return value if isinstance(value, str) else value["value"]


@pytest.fixture
def server_takes(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    def choose(private: str, host: str) -> None:
        async def accepted(address: str, private_keys: list[str], host_keys: list[str]) -> AcceptedKeys:
            assert private.strip() in [key.strip() for key in private_keys]
            assert host in host_keys
            return AcceptedKeys(private, host)

        monkeypatch.setattr(rotation, "_try", accepted)

    return choose


def test_without_a_former_key_the_server_is_not_asked_which_one_is_taken(program, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(rotation, "_try")
    keys_used = connections(program())
    assert {host.split()[1] for _, host in keys_used.values()} == {NEW[1].split()[1]}
    assert {private for private, _ in keys_used.values()} == {NEW[0].strip()}


def test_the_server_is_given_the_new_keys_over_those_that_it_takes_and_asked_for_the_rest_with_the_new(
    program, server_takes
):
    server_takes(FORMER, FORMER_HOST)
    keys_used = connections(program(formerDeployKey=FORMER, formerSshHostKey=FORMER_HOST))
    assert {name for name, keys in keys_used.items() if keys == (FORMER.strip(), FORMER_HOST)} == set(ONCE)
    rest = [keys for name, keys in keys_used.items() if name not in ONCE]
    assert {(private, host.split()[1]) for private, host in rest} == {(NEW[0].strip(), NEW[1].split()[1])}


def test_the_server_is_given_keys_once_for_each_pair_of_them(program):
    inputs = program()["nixos-keys"]
    assert [trigger.split()[:2] for trigger in inputs["triggers"][1:]] == [
        public(SECRETS["deployKey"]).split()[:2],
        NEW[1].split()[:2],
    ]
    assert SECRET in inputs["stdin"]
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(inputs["stdin"]["value"]))) as bundle:
        assert set(bundle.getnames()) == {"run.sh", "host-key", "deploy-key.pub"}


def test_another_deploy_key_is_another_key_at_hetzner(program):
    first = program()["server-ssh-key"]["name"]
    second = program(deployKey=private_key())["server-ssh-key"]["name"]
    assert first.startswith("prod-headscale-") and second.startswith("prod-headscale-")
    assert first != second


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The program's warnings."""
    warnings: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", warnings.append)
    return warnings


@pytest.fixture
def taken(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """The keys that an sshd on this machine takes, which is asked in the server's place."""
    monkeypatch.setattr(asyncssh, "connect", partial(asyncssh.connect, port=sshd.port))
    return sshd.connection["privateKey"], sshd.connection["hostKey"]


def accepted(private_keys: list[str], host_keys: list[str]) -> tuple[str, str]:
    return asyncio.run(rotation.accepted_keys("127.0.0.1", private_keys, host_keys))


def test_the_keys_that_the_server_takes_are_found_wherever_the_change_was_ended(taken: tuple[str, str], messages):
    deploy, host = taken
    other, other_host = private_key(), public(private_key())
    assert accepted([other, deploy], [other_host, host]) == (deploy, host)
    assert accepted([deploy, other], [other_host, host]) == (deploy, host)
    assert accepted([other, deploy], [host, other_host]) == (deploy, host)
    assert messages == []
    assert accepted([deploy, other], [host, other_host]) == (deploy, host)
    assert accepted([deploy, other], [host]) == (deploy, host)
    assert [re.findall(r"config rm headscale:(\w+)", warning) for warning in messages] == [
        ["formerDeployKey", "formerSshHostKey"],
        ["formerDeployKey"],
    ]


def test_a_server_that_takes_none_counts_as_having_the_configured_ones(taken: tuple[str, str], messages):
    deploy, host = taken
    strangers = [private_key(), private_key()]
    assert accepted(strangers, [host]) == (strangers[0], host)
    assert "PermissionDenied" in messages[0]
    others = [public(private_key()), public(private_key())]
    assert accepted([deploy], others) == (deploy, others[0])
    assert "Host key is not trusted" in messages[1]


def test_a_server_that_does_not_answer_counts_as_having_the_configured_ones(messages):
    assert asyncio.run(rotation.accepted_keys("127.255.255.254", [FORMER], [FORMER_HOST])) == (FORMER, FORMER_HOST)
    assert len(messages) == 1
