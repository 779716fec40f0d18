"""scripts/init makes what is missing, keeps what is there, and continues wherever a run ended."""

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL

import pytest
import yaml
from mocked import SOPS_VALUES, private_key
from pyrage import x25519
from vault import vault

import rules
import sops
from rehearsal.setup import programs

HERE = Path(__file__).resolve().parent
PROGRAM = HERE.parent
KEYS = ("deployKey", "sshHostKey", "hostAgeKey", "factsKey")
NOISE, API = SOPS_VALUES
BY_VAULT = ("--secrets-provider", "hashivault://k")
pytestmark = pytest.mark.usefixtures("engine")
NOT_COPIED = shutil.ignore_patterns(".git", "__pycache__", "rehearsal", "tests", ".*_cache", ".venv")


@dataclass(frozen=True)
class Operator:
    """Somebody with a clone of the project, a home, and the stack `mine`."""

    place: Path
    environment: dict[str, str]

    @property
    def project(self) -> Path:
        return self.place / "project"

    @property
    def secrets_file(self) -> Path:
        return self.project / "nix/secrets/mine.yaml"

    @property
    def sops_yaml(self) -> Path:
        return self.project / ".sops.yaml"

    @property
    def age_keys(self) -> Path:
        return self.place / "home/.config/sops/age/keys.txt"

    def start(self, *command: str | Path, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        environment = self.environment | more
        return subprocess.run(
            command, cwd=self.project, env=environment, input=stdin, capture_output=True, text=True, timeout=120
        )

    def run(self, *command: str | Path, stdin: str = "", **more: str) -> str:
        process = self.start(*command, stdin=stdin, **more)
        assert process.returncode == 0, f"{command}: {process.stdout}{process.stderr}"
        return process.stdout

    def init(self, *flags: str, **more: str) -> str:
        return self.run("scripts/init", *flags, **more)

    def refused(self, *flags: str, **more: str) -> str:
        process = self.start("scripts/init", *flags, **more)
        assert process.returncode == 1, process.stdout + process.stderr
        assert "Traceback" not in process.stderr
        return process.stderr

    def get(self, key: str) -> str:
        return self.run("pulumi", "config", "get", f"headscale:{key}").strip()

    def host(self) -> x25519.Identity:
        return rules.age_identity(self.get("hostAgeKey"))

    def values(self) -> dict[str, str]:
        return json.loads(self.run("sops", "decrypt", "--output-type", "json", self.secrets_file))

    def files(self) -> dict[str, tuple[bytes, int]]:
        """The content of every file of the project and the home, with the time of its last change."""
        passing = {".pulumi", "__pycache__"}
        matches = (path for path in self.place.rglob("*") if path.is_file() and not passing.intersection(path.parts))
        return {str(path.relative_to(self.place)): (path.read_bytes(), path.stat().st_mtime_ns) for path in matches}

    def logged(self, **more: str) -> dict[str, str]:
        """An environment whose pulumi and sops write down how they are called."""
        path = self.environment["PATH"]
        return {"PATH": f"{shims(self.place)}:{path}", "REAL": str(programs.build(print)), "LOG": self.log} | more

    @property
    def log(self) -> str:
        return str(self.place / "log")


def shims(place: Path) -> Path:
    directory = place / "shims"
    directory.mkdir(exist_ok=True)
    for name in ("pulumi", "sops"):
        shutil.copy(HERE / "logged.sh", directory / name)
    return directory


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    """An operator without a passphrase: Vault encrypts the stack's secrets, which is quicker."""
    with vault() as address:
        yield newcomer(tmp_path, *BY_VAULT, VAULT_SERVER_URL=address, VAULT_SERVER_TOKEN="t")


@pytest.fixture
def with_passphrase(tmp_path: Path) -> Operator:
    return newcomer(tmp_path, PULUMI_CONFIG_PASSPHRASE=secrets.token_urlsafe())


def newcomer(place: Path, *flags: str, **environment: str) -> Operator:
    """One whose stack has nothing but a name."""
    home = place / "home"
    home.mkdir()
    (place / "tmp").mkdir()
    shutil.copytree(PROGRAM, place / "project", ignore=NOT_COPIED)
    path = f"{Path(sys.executable).parent}:{programs.build(print)}:{os.environ['PATH']}"
    common = {"HOME": str(home), "PATH": path, "TMPDIR": str(place / "tmp"), "PULUMI_BACKEND_URL": f"file://{home}"}
    operator = Operator(place, common | {"PULUMI_SKIP_UPDATE_CHECK": "true"} | environment)
    operator.run("pulumi", "stack", "init", "mine", *flags)
    return operator


@pytest.mark.parametrize("provider", ["operator", "with_passphrase"])
def test_it_makes_everything_and_says_what_where_and_what_to_back_up(provider: str, request: pytest.FixtureRequest):
    operator = request.getfixturevalue(provider)
    output = operator.init()
    public = [rules.private_key(operator.get(key)) for key in ("deployKey", "sshHostKey")]
    assert public[0] != public[1]
    assert sops.checked(operator.secrets_file, operator.host())
    assert operator.values().keys() == SOPS_VALUES.keys()
    assert operator.age_keys.stat().st_mode & 0o777 == 0o600
    assert operator.age_keys.parent.stat().st_mode & 0o777 == 0o700
    assert len(re.findall("^made ", output, re.MULTILINE)) == len(KEYS) + 3
    for where in (*(f"headscale:{key} in Pulumi.mine.yaml" for key in KEYS), operator.age_keys, ".sops.yaml"):
        assert f": {where}\n" in output
    assert ": nix/secrets/mine.yaml, encrypted\n" in output
    assert "Commit Pulumi.mine.yaml, .sops.yaml, nix/secrets/mine.yaml;" in output
    assert re.search(f"(?s)Back up, .* the stack's passphrase, .* your age key, {operator.age_keys}", output)
    assert list((operator.place / "tmp").iterdir()) == []


def test_another_run_changes_nothing(operator: Operator):
    operator.init()
    before = operator.files()
    output = operator.init()
    assert operator.files() == before
    assert "the stack mine has all its keys and secrets\n" in output
    assert "made" not in output
    assert "Back up" in output


def test_what_is_there_is_kept(operator: Operator):
    own = private_key()
    operator.run("pulumi", "config", "set", "--secret", "deployKey", stdin=own)
    operator.age_keys.parent.mkdir(parents=True)
    mine = x25519.Identity.generate()
    operator.age_keys.write_text(f"# mine\n{mine}\n")
    output = operator.init()
    assert operator.get("deployKey") == own.strip()
    assert operator.age_keys.read_text() == f"# mine\n{mine}\n"
    assert len(re.findall("^made ", output, re.MULTILINE)) == len(KEYS) + 1
    assert set(sops.recipients(operator.secrets_file)) == {str(mine.to_public()), str(operator.host().to_public())}


def test_sops_edits_the_file_and_follows_the_rules_without_options(operator: Operator):
    operator.init()
    operator.run("sops", "nix/secrets/mine.yaml", SOPS_EDITOR=r"sed -i '1s/^/note: kept\n/'")
    assert operator.values()["note"] == "kept"
    other = str(x25519.Identity.generate().to_public())
    text = operator.sops_yaml.read_text()
    operator.sops_yaml.write_text(text.replace("  # the server", f"\n          - {other}"))
    operator.run("sops", "updatekeys", "--yes", "nix/secrets/mine.yaml")
    assert other in sops.recipients(operator.secrets_file)
    operator.init()


def test_stacks_live_side_by_side(operator: Operator):
    operator.init()
    before = operator.files()
    operator.run("pulumi", "stack", "init", "other-2", *BY_VAULT)
    own_file = operator.place / "elsewhere.yaml"
    operator.run("pulumi", "config", "set", "--plaintext", "secretsFile", str(own_file))
    operator.init()
    operator.init("--stack", "organization/headscale/mine")
    after = operator.files()
    assert {name for name in before if before[name] != after[name]} == {"project/.sops.yaml"}
    assert operator.sops_yaml.read_bytes().startswith(before["project/.sops.yaml"][0])
    assert set(sops.recipients(own_file)) & set(sops.recipients(operator.secrets_file)) == {
        str(rules.age_identity(operator.age_keys.read_text().splitlines()[-1]).to_public())
    }
    assert operator.run("sops", "updatekeys", "--yes", own_file) == ""


def test_the_settings_may_be_in_another_file(operator: Operator):
    settings = operator.project / "Pulumi.mine.yaml"
    settings.rename(operator.place / "settings.yaml")
    operator.init("--stack", "mine", "--config-file", "../settings.yaml")
    assert not settings.exists()
    assert "headscale:hostAgeKey" in (operator.place / "settings.yaml").read_text()


def test_killed_before_any_of_its_steps_it_continues_in_the_next_run(operator: Operator):
    """Slow by design: it begins as often as it has steps."""
    killed = operator.place.with_name(f"{operator.place.name}-killed")
    killed.touch()
    run = (sys.executable, HERE / "killed.py", killed, "scripts.init")
    before = operator.files()
    while (process := operator.start(*run, PYTHONPATH=str(operator.project))).returncode == -SIGKILL:
        after = operator.files()
        assert only_settings_grew(before, after), killed.read_text().splitlines()[-2:]
        before = after
    assert process.returncode == 0, process.stderr
    steps = [step.split("'")[1] for step in killed.read_text().splitlines()]
    assert {".new-keys.txt", ".new-.sops.yaml", ".new-mine.yaml", "sops", "pulumi"} <= {
        Path(step).name for step in steps
    }
    assert not [name for name in operator.files() if ".new-" in name]
    assert sops.checked(operator.secrets_file, operator.host())


def only_settings_grew(before: dict[str, tuple[bytes, int]], after: dict[str, tuple[bytes, int]]) -> bool:
    """Nothing that was there has changed; only the stack's settings grew."""
    settings = "project/Pulumi.mine.yaml"
    whole = {name for name in before if ".new-" not in name} - {settings}
    return all(after[name] == before[name] for name in whole) and set(before[settings][0].splitlines()) <= set(
        after[settings][0].splitlines()
    )


@pytest.mark.parametrize("moment", ["headscale:deployKey", "headscale:hostAgeKey", "encrypt"])
def test_killed_while_a_program_still_works_for_it_the_next_run_waits(operator: Operator, moment: str):
    process = operator.start("scripts/init", **operator.logged(KILL=moment))
    assert process.returncode == -SIGKILL
    operator.init(**operator.logged())
    calls = [
        line for line in Path(operator.log).read_text().splitlines() if "config set" in line or "config --" in line
    ]
    setting = [line for line in calls if " set " in line]
    assert len(setting) == len(set(setting)) == len(KEYS), "a key was made twice"
    assert sops.checked(operator.secrets_file, operator.host())


def test_no_secret_is_in_arguments_or_environment(with_passphrase: Operator):
    operator = with_passphrase
    operator.init(**operator.logged())
    private_values = [
        operator.get("hostAgeKey"),
        *operator.values().values(),
        operator.age_keys.read_text().splitlines()[-1],
    ]
    keys = [line for key in ("deployKey", "sshHostKey") for line in operator.get(key).splitlines()[1:-1]]
    log = Path(operator.log).read_text()
    assert operator.environment["PULUMI_CONFIG_PASSPHRASE"] in log, "the environment was not looked at"
    assert " set --secret " in log
    assert [secret for secret in (*private_values, *keys) if secret in log] == []


def test_a_missing_program_is_reported_in_a_sentence_with_how_to_get_it(operator: Operator):
    directory = operator.place / "bin"
    directory.mkdir()
    for name in ("sh", "dirname"):
        (directory / name).symlink_to(shutil.which(name) or "")
    (directory / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (directory / "python3").chmod(0o755)
    output = operator.refused(PATH=str(directory)).splitlines()
    assert len(output) == 2
    assert re.fullmatch(r"scripts/init: `pulumi` is not on PATH; `curl .*`, or see https://.*", output[0])
    assert re.fullmatch(r"`sops` is not on PATH; `brew install sops` or .*", output[1])
    (directory / "pulumi").symlink_to("/bin/true")
    assert operator.refused(PATH=str(directory)).startswith("scripts/init: `sops` is not on PATH; ")


def test_a_python_without_the_programs_modules_is_reported(operator: Operator):
    directory = operator.place / "bin"
    directory.mkdir()
    (directory / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    (directory / "python3").chmod(0o755)
    output = operator.refused(PATH=f"{directory}:{operator.environment['PATH']}")
    assert re.fullmatch(r"scripts/init: \S+ lacks the module \w+; `pulumi install` installs it\n", output)


def test_without_a_stack_or_a_passphrase_pulumis_own_words_are_reported(with_passphrase: Operator):
    operator = with_passphrase
    assert "no stack named 'yours' found" in operator.refused("--stack", "yours")
    operator.run("pulumi", "stack", "unselect")
    assert "no stack selected; please use `pulumi stack select`" in operator.refused()
    assert "incorrect passphrase" in operator.refused("--stack", "mine", PULUMI_CONFIG_PASSPHRASE="")


def test_what_cannot_be_written_is_reported(operator: Operator):
    operator.age_keys.parent.parent.mkdir(parents=True)
    operator.age_keys.parent.touch()
    assert re.fullmatch(r"scripts/init: .*: '/.*/sops/age'\n", operator.refused())


def test_the_operators_key_may_be_of_any_kind_if_it_is_named(operator: Operator):
    operator.age_keys.parent.mkdir(parents=True)
    operator.age_keys.write_text("AGE-PLUGIN-YUBIKEY-1QQQQ\n")
    assert "another kind of key than AGE-SECRET-KEY-1...; `export SOPS_AGE_RECIPIENTS=age1...`" in operator.refused()
    assert "comes from SOPS_AGE_KEY_CMD" in operator.refused(SOPS_AGE_KEY_CMD="cat /dev/null")
    mine = [str(x25519.Identity.generate().to_public()) for _ in range(2)]
    operator.init(SOPS_AGE_RECIPIENTS=", ".join(mine))
    assert {*mine, str(operator.host().to_public())} == set(sops.recipients(operator.secrets_file))
    assert operator.age_keys.read_text() == "AGE-PLUGIN-YUBIKEY-1QQQQ\n"


OTHERS = """\
# the household's
stores:
  yaml:
    indent: 2
creation_rules:
{indent}# the oven's
{indent}- path_regex: ^oven/
{indent}  age: age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p{end}"""


@pytest.mark.parametrize(("indent", "end"), [("", ""), ("  ", "\n"), ("    ", "\n\n")])
def test_a_rule_is_added_and_nothing_of_the_file_is_touched(operator: Operator, indent: str, end: str):
    text = OTHERS.format(indent=indent, end=end)
    operator.sops_yaml.write_text(text)
    operator.init()
    after = operator.sops_yaml.read_text()
    assert after.startswith(text.rstrip("\n"))
    assert len(yaml.safe_load(after)["creation_rules"]) == 2
    assert operator.run("sops", "updatekeys", "--yes", "nix/secrets/mine.yaml") == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("creation_rules: [", ".sops.yaml is not YAML: "),
        ("- creation_rules", ".sops.yaml is not a configuration of sops"),
        ("creation_rules: oven", ".sops.yaml is not a configuration of sops"),
        ("creation_rules:\n- path_regex: (oven\n", "can not compile regexp: error parsing regexp: missing closing )"),
    ],
)
def test_a_configuration_that_sops_would_not_take_is_reported(operator: Operator, text: str, message: str):
    operator.sops_yaml.write_text(text)
    assert message in operator.refused()
    assert operator.sops_yaml.read_text() == text


@pytest.mark.parametrize(
    "text", ["creation_rules: [{path_regex: ^oven/}]\n", "creation_rules:\n- path_regex: ^oven/\nstores: {}\n"]
)
def test_where_a_rule_cannot_be_added_it_is_reported(operator: Operator, text: str):
    operator.sops_yaml.write_text(text)
    output = operator.refused()
    assert operator.sops_yaml.read_text() == text
    assert ".sops.yaml lacks a rule for nix/secrets/mine.yaml; add it to its creation_rules:\n" in output
    rule = yaml.safe_load(output.partition("creation_rules:\n")[2])
    operator.sops_yaml.write_text(yaml.safe_dump({"creation_rules": rule}))
    operator.init()


def test_a_rule_of_the_operators_is_used_as_it_is(operator: Operator):
    mine = str(x25519.Identity.generate().to_public())
    operator.sops_yaml.write_text(f"creation_rules:\n- age: {mine}\n")
    output = operator.refused()
    host = str(operator.host().to_public())
    assert f".sops.yaml does not let the server open nix/secrets/mine.yaml: add {host} to its rule" in output
    assert [path.name for path in operator.secrets_file.parent.iterdir()] == ["sample.yaml"]
    operator.sops_yaml.write_text(f"creation_rules:\n- age: {mine},{host}\n")
    operator.init()
    assert sops.recipients(operator.secrets_file) == [mine, host]
    assert not operator.age_keys.exists()


LEAKING = {
    "encrypted_regex": ("- encrypted_regex: ^(data|stringData)$\n  age: {}\n", "encrypted_regex: ^(data|stringData)$"),
    "unencrypted_regex": (
        "- path_regex: secrets/.*\n  unencrypted_regex: ^headscale\n  age: {}\n",
        "unencrypted_regex",
    ),
    "encrypted_suffix": ("- encrypted_suffix: _secret\n  age: {}\n", "encrypted_suffix: _secret"),
    "unencrypted_suffix": ("- unencrypted_suffix: _key\n  age: {}\n", "unencrypted_suffix: _key"),
}


@pytest.mark.parametrize(("rule", "setting"), LEAKING.values(), ids=LEAKING)
def test_a_rule_that_leaves_keys_in_clear_is_refused_before_anything_is_written(
    operator: Operator, rule: str, setting: str
):
    mine = str(x25519.Identity.generate().to_public())
    operator.sops_yaml.write_text(f"creation_rules:\n{rule.format(mine)}")
    before = operator.files()
    output = operator.refused()
    assert f"leaves {NOISE} and {API} in clear ({setting}" in output
    assert "put a rule without that before it" in output
    assert operator.files() == before


def test_a_file_that_leaves_new_keys_in_clear_is_left_as_it_is(operator: Operator):
    operator.init()
    operator.run("sops", "unset", str(operator.secrets_file), f'["{API}"]')
    values = operator.values()
    identity = str(operator.host().to_public())
    rule = f"creation_rules:\n- encrypted_regex: noise\n  age: {identity}\n"
    operator.place.joinpath("partial.yaml").write_text(rule)
    encrypt = ("sops", "--config", str(operator.place / "partial.yaml"), "encrypt", "--input-type", "json")
    text = operator.run(*encrypt, "--output-type", "yaml", "/dev/stdin", stdin=json.dumps(values))
    operator.secrets_file.write_text(text)
    assert f"leaves {API} in clear (encrypted_regex: noise)" in operator.refused(
        SOPS_AGE_KEY=operator.get("hostAgeKey")
    )
    assert operator.secrets_file.read_text() == text
    assert [path.name for path in operator.secrets_file.parent.iterdir() if path.name.startswith(".")] == []


def test_a_rule_of_two_key_groups_is_refused_with_its_reason(operator: Operator):
    mine = str(x25519.Identity.generate().to_public())
    operator.sops_yaml.write_text(f"creation_rules:\n- key_groups:\n  - age: [{mine}]\n  - age: [{mine}]\n")
    output = operator.refused()
    assert "has 2 key_groups, and the server, age1" in output
    assert "is in 0 of them" in output
    assert not operator.secrets_file.exists()


def test_a_rule_is_read_as_sops_reads_it(operator: Operator):
    operator.init()
    rules_before = operator.sops_yaml.read_text()
    posix = re.sub("path_regex: .*", r"path_regex: '^nix/secrets/[[:alnum:]_-]+\\.ya?ml$'", rules_before)
    operator.sops_yaml.write_text(posix)
    process = operator.start("scripts/init")
    assert (process.returncode, process.stderr) == (0, "")
    assert operator.sops_yaml.read_text() == posix


def test_nothing_that_git_would_add_holds_a_secret(operator: Operator):
    operator.init()
    operator.run("git", "init", "--quiet")
    operator.run("git", "add", "--all")
    added = operator.run("git", "grep", "--cached", "-h", "")
    assert "nix/secrets/mine.yaml" in operator.run("git", "ls-files")
    secrets_of_mine = [*operator.values().values(), *map(operator.get, KEYS), operator.age_keys.read_text()]
    for secret in secrets_of_mine:
        assert all(line not in added for line in secret.splitlines() if len(line) > 20 and "KEY-----" not in line)


def test_an_age_key_that_git_would_take_is_refused(operator: Operator):
    key = operator.project / "keys.txt"
    before = operator.files()
    assert "`git add` would take it along" in operator.refused(SOPS_AGE_KEY_FILE=str(key))
    assert operator.files() == before
    operator.run("git", "init", "--quiet")
    with (operator.project / ".gitignore").open("a") as ignored:
        ignored.write("keys.txt\n")
    operator.init(SOPS_AGE_KEY_FILE=str(key))
    assert key.exists()


def test_a_file_for_another_server_is_kept_and_the_repair_works(operator: Operator):
    operator.init()
    values, before = operator.values(), operator.secrets_file.read_text()
    old = str(operator.host().to_public())
    operator.run("pulumi", "config", "rm", "hostAgeKey")
    output = operator.refused()
    new = str(operator.host().to_public())
    assert operator.secrets_file.read_text() == before
    assert f"nix/secrets/mine.yaml is not encrypted to the server's age key, {new}; " in output
    operator.sops_yaml.write_text(operator.sops_yaml.read_text().replace(old, new))
    operator.run("sh", "-c", f"yes | {re.findall('`(sops .*?)`', output)[0]}")
    operator.init()
    assert operator.values() == values


LOST = {
    "renamed": ("mv", "nix/secrets/mine.yaml", "nix/secrets/former.yaml"),
    "removed": ("rm", "nix/secrets/mine.yaml"),
    "without its noise key": ("sops", "unset", "nix/secrets/mine.yaml", f'["{NOISE}"]'),
}


@pytest.mark.parametrize("lost", LOST)
def test_a_stack_that_has_a_server_gets_no_second_identity_unless_asked(operator: Operator, lost: str):
    operator.init()
    before = operator.values()[NOISE]
    give_server(operator)
    operator.run(*LOST[lost])
    output = operator.refused()
    assert "the stack mine has a server" in output
    assert "`scripts/init --new-identity` makes another, and every device must log in again, by hand" in output
    assert ("former.yaml is encrypted to this stack's server" in output) == (lost == "renamed")
    assert not operator.secrets_file.exists() or operator.values().keys() == {API}
    operator.init("--new-identity")
    assert operator.values()[NOISE] != before


def test_a_stack_that_was_renamed_gets_no_second_identity(operator: Operator):
    operator.init()
    former = operator.secrets_file.with_name("former.yaml")
    operator.secrets_file.rename(former)
    assert "nix/secrets/former.yaml is encrypted to this stack's server" in operator.refused()
    assert not operator.secrets_file.exists()
    former.rename(operator.secrets_file)
    operator.init()


def give_server(operator: Operator) -> None:
    """Let the stack's state know a server, as after `pulumi up`."""
    state = json.loads(operator.run("pulumi", "stack", "export"))
    kind = "hcloud:index/server:Server"
    server = {"urn": f"urn:pulumi:mine::headscale::{kind}::server-server", "type": kind, "custom": True, "id": "1"}
    state["deployment"]["resources"] = [server]
    operator.run("pulumi", "stack", "import", stdin=json.dumps(state))


def test_an_operator_without_the_age_key_gets_in_by_the_servers_as_the_readme_says(operator: Operator):
    operator.init()
    values = operator.values()
    lost = operator.age_keys.read_text()
    operator.age_keys.unlink()
    operator.run("age-keygen", "-o", operator.age_keys)
    old, new = (re.findall("age1[0-9a-z]+", text)[0] for text in (lost, operator.age_keys.read_text()))
    operator.sops_yaml.write_text(operator.sops_yaml.read_text().replace(old, new))
    output = re.findall("`(SOPS_AGE_KEY_CMD=[^`]*)`", (PROGRAM / "docs/keys.md").read_text())[0]
    operator.run("sh", "-c", f"yes | {output}")
    assert operator.values() == values
    operator.init()


def test_an_operator_who_cannot_open_the_file_is_warned_and_the_way_in_works(operator: Operator):
    operator.init()
    values = operator.values()
    operator.age_keys.unlink()
    process = operator.start("scripts/init")
    assert process.returncode == 0, process.stderr
    assert "warning: you cannot open nix/secrets/mine.yaml; it is for age1" in process.stderr
    operator.run("age-keygen", "-o", operator.age_keys)
    mine = re.findall("age1[0-9a-z]+", operator.age_keys.read_text())[0]
    host = str(operator.host().to_public())
    operator.sops_yaml.write_text(operator.sops_yaml.read_text().replace(host, f"{host}\n          - {mine}", 1))
    operator.run("sh", "-c", f"yes | {re.findall('`(SOPS_AGE_KEY_CMD=[^`]*)`', process.stderr)[0]}")
    assert operator.values() == values
    assert operator.start("scripts/init").stderr == ""


@pytest.mark.parametrize("spoilt", [NOISE, API])
def test_a_missing_or_malformed_secret_is_repaired_as_reported_and_the_other_kept(operator: Operator, spoilt: str):
    operator.init()
    good = operator.values()
    operator.run("sops", "set", "nix/secrets/mine.yaml", f'["{spoilt}"]', '"hunter2"')
    output = operator.refused()
    assert f"holds a {spoilt} that is not" in output
    assert "hunter2" not in output
    operator.run("sh", "-c", re.findall("`(sops unset .*?)`", output)[0])
    operator.init()
    values = operator.values()
    assert {name for name in good if values[name] == good[name]} == set(good) - {spoilt}


def test_a_file_in_clear_is_refused_and_the_repair_works(operator: Operator):
    operator.secrets_file.write_text(yaml.safe_dump(SOPS_VALUES))
    output = operator.refused()
    assert "nix/secrets/mine.yaml is not encrypted" in output
    assert not [value for value in SOPS_VALUES.values() if value in output]
    operator.run("sh", "-c", re.findall("`(sops encrypt .*?)`", output)[0])
    operator.init()
    assert operator.values() == SOPS_VALUES


def test_a_file_without_a_rule_gets_one_that_leaves_it_as_it_is(operator: Operator):
    operator.init()
    before = operator.secrets_file.read_text()
    operator.sops_yaml.unlink()
    operator.age_keys.rename(operator.age_keys.with_name("away"))
    operator.init()
    assert not operator.age_keys.exists()
    assert operator.secrets_file.read_text() == before
    operator.run("sops", "updatekeys", "--yes", "nix/secrets/mine.yaml")
    assert operator.secrets_file.read_text() == before
