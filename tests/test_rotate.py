"""scripts/rotate makes a new key, keeps what reaches the server until it has it, and completes an interrupted run."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL

import pytest
from test_init import BY_VAULT, HERE, Operator, newcomer
from vault import vault

import rules
import sops

pytestmark = pytest.mark.usefixtures("engine")
SSH = {"deploy-key": ("deployKey", "formerDeployKey"), "host-key": ("sshHostKey", "formerSshHostKey")}


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    """An operator whose stack has all its keys."""
    with vault() as address:
        operator = newcomer(tmp_path, *BY_VAULT, VAULT_SERVER_URL=address, VAULT_SERVER_TOKEN="t")
        operator.init()
        yield operator


def rotate(operator: Operator, key: str, **more: str) -> str:
    return operator.run("scripts/rotate", key, **more)


def refused(operator: Operator, key: str) -> str:
    process = operator.start("scripts/rotate", key)
    assert process.returncode == 1, process.stdout + process.stderr
    assert "Traceback" not in process.stderr
    return process.stderr


def settings(operator: Operator) -> str:
    return (operator.project / "Pulumi.mine.yaml").read_text()


def former_value(key: str, private: str) -> str:
    """The half of a former SSH key that has to stay."""
    return private if key == "deploy-key" else rules.private_key(f"{private}\n")


@pytest.mark.parametrize("key", SSH)
def test_an_ssh_key_is_another_and_what_reaches_the_server_stays(operator: Operator, key: str):
    name, former = SSH[key]
    before = operator.get(name)
    output = rotate(operator, key)
    assert rules.private_key(operator.get(name) + "\n") != rules.private_key(before + "\n")
    assert operator.get(former) == former_value(key, before)
    assert f"`pulumi config rm headscale:{former}`" in output
    assert f"  headscale:{name}:\n    secure: " in settings(operator)
    assert (f"  headscale:{former}:\n    secure: " in settings(operator)) == (key == "deploy-key")


@pytest.mark.parametrize("key", SSH)
def test_the_only_key_that_the_server_may_know_is_not_forgotten(operator: Operator, key: str):
    name, former = SSH[key]
    rotate(operator, key)
    before = operator.files()
    output = refused(operator, key)
    assert operator.files() == before
    assert f"Run `pulumi up`, then `pulumi config rm headscale:{former}`" in output
    operator.run("pulumi", "config", "rm", f"headscale:{former}")
    second = operator.get(name)
    rotate(operator, key)
    assert operator.get(former) == former_value(key, second)


def test_the_sops_file_and_its_rule_follow_the_age_key(operator: Operator):
    before, values, text = operator.host(), operator.values(), operator.secrets_file.read_text()
    rotate(operator, "age-key")
    new, old = str(operator.host().to_public()), str(before.to_public())
    assert sops.checked(operator.secrets_file, operator.host())
    assert operator.values() == values
    assert old not in operator.secrets_file.read_text() + operator.sops_yaml.read_text()
    assert f"- {new}  # the server" in operator.sops_yaml.read_text()
    assert len(sops.recipients(operator.secrets_file)) == 2
    assert operator.run("sops", "updatekeys", "--yes", "nix/secrets/mine.yaml") == ""
    own = next(line for line in text.splitlines() if "enc: ENC[" in line or "data:" in line)
    assert own not in operator.secrets_file.read_text(), "the values are encrypted with the data key that was known"


def test_an_age_key_that_does_not_open_the_file_is_reported_and_nothing_changes(operator: Operator):
    operator.run("pulumi", "config", "rm", "headscale:hostAgeKey")
    process = operator.start("scripts/init")
    assert process.returncode == 1
    before = (settings(operator), operator.secrets_file.read_text())
    assert "nix/secrets/mine.yaml is not encrypted to the server's age key" in refused(operator, "age-key")
    assert (settings(operator), operator.secrets_file.read_text()) == before


@pytest.mark.parametrize("key", [*SSH, "age-key"])
def test_killed_before_any_of_its_steps_the_next_run_completes_it(operator: Operator, key: str):
    """Slow by design: it begins as often as it has steps."""
    killed = operator.place.with_name(f"{operator.place.name}-killed")
    killed.touch()
    current = {name: operator.get(name) for name in ("deployKey", "sshHostKey", "hostAgeKey")}
    values = operator.values()
    run = (sys.executable, HERE / "killed.py", killed, "scripts.rotate", key)
    times = 0
    while (process := operator.start(*run, PYTHONPATH=str(operator.project))).returncode == -SIGKILL:
        times += 1
        assert reachable(operator, current), killed.read_text().splitlines()[-2:]
        assert operator.values() == values
    assert process.returncode == 0, process.stderr
    assert times > 3
    assert sops.checked(operator.secrets_file, operator.host())
    assert all(recipient in operator.sops_yaml.read_text() for recipient in sops.recipients(operator.secrets_file))
    assert not list(operator.project.rglob(".rotated-*")) + list(operator.project.rglob(".new-*"))
    assert [name for name in current if operator.get(name) != current[name]] == [SSH.get(key, ("hostAgeKey",))[0]]


def reachable(operator: Operator, current: dict[str, str]) -> bool:
    """True where the configuration still holds a deploy key and a host key of before."""
    configuration = operator.run("pulumi", "config", "--json", "--show-secrets")
    deploy_key, host_key = current["deployKey"].splitlines()[-3], current["sshHostKey"].splitlines()[-3]
    return deploy_key in configuration and (
        host_key in configuration or rules.private_key(current["sshHostKey"] + "\n") in configuration
    )


@pytest.mark.parametrize("key", [*SSH, "age-key"])
def test_no_secret_is_in_arguments_or_environment(operator: Operator, key: str):
    names = ("deployKey", "sshHostKey", "hostAgeKey")
    before = [operator.get(name) for name in names]
    rotate(operator, key, **operator.logged())
    configuration = [*before, *(operator.get(name) for name in names)]
    lines = {line for text in configuration for line in text.splitlines() if not line.startswith("-----")}
    # What a private SSH key's first line holds is the same in all.
    secret = {line for line in lines if not line.startswith("b3BlbnNzaC1rZXk")}
    log = Path(operator.log).read_text()
    assert "\nPATH=" in log and " set --secret " in log
    assert [line for line in secret if line in log] == []


def test_the_readme_names_each_key(operator: Operator):
    named = re.findall(r"^ *\./scripts/rotate (\S+)", (operator.project / "docs/keys.md").read_text(), re.MULTILINE)
    assert "{" + ",".join(named) + "}" in operator.run("scripts/rotate", "--help")
