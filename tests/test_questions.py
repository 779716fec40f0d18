"""scripts/init asks a person for what a new stack lacks, takes each answer as a flag, and asks in a terminal only."""

import os
import pty
import re
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from emulated import TOKEN, hetzner
from test_init import BY_VAULT, PROGRAM, Operator, newcomer
from vault import vault

from rehearsal.sandbox.wait import eventually
from scripts.health import api
from scripts.prices import server_types

pytestmark = pytest.mark.usefixtures("engine")
FLAGS = ("--domain", "example.org", "--acme-email", "me@example.org", "--zone", "example.org", "--location", "hel1")
MORE = ("--server-type", "cax11", "--admin-network", "198.51.100.10")
SETTINGS = {
    "headscale:domain": "example.org",
    "headscale:acmeEmail": "me@example.org",
    "headscale:zone": "example.org",
    "headscale:location": "hel1",
    "headscale:serverType": "cax11",
    "headscale:adminNetworks": ["198.51.100.10"],
}


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    with vault() as address:
        yield newcomer(tmp_path, *BY_VAULT, VAULT_SERVER_URL=address, VAULT_SERVER_TOKEN="t")


class Terminal:
    """A terminal in which scripts/init runs: what it shows, and a person's answers."""

    def __init__(self, operator: Operator, *flags: str, **more: str) -> None:
        self.shown = ""
        self._own, its = pty.openpty()
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "scripts/init", *flags],
            cwd=operator.project,
            env=operator.environment | more,
            stdin=its,
            stdout=its,
            stderr=its,
        )
        os.close(its)
        os.set_blocking(self._own, False)

    def answer(self, question: str, text: str) -> str:
        """The text up to the prompt that begins with `question`, which then gets this answer."""
        eventually(lambda: self._asks(question), f"the question {question}", timeout=60)
        before, self.shown = self.shown, ""
        os.write(self._own, text.encode())
        return before

    def end(self) -> int:
        eventually(self._has_ended, "the end of scripts/init", timeout=60)
        self._read()
        os.close(self._own)
        return self.process.wait()

    def _asks(self, question: str) -> bool:
        self._read()
        last = self.shown.replace("\r", "").rpartition("\n")[2]
        assert self.process.poll() is None, self.shown
        return last.startswith(question) and last.endswith(": ")

    def _has_ended(self) -> bool:
        self._read()
        return self.process.poll() is not None

    def _read(self) -> None:
        try:
            while text := os.read(self._own, 65536):
                self.shown += text.decode()
        except (BlockingIOError, OSError):
            pass


def settings(operator: Operator, stack: str = "mine") -> dict[str, object]:
    content = yaml.safe_load((operator.project / f"Pulumi.{stack}.yaml").read_text())["config"]
    return {key: value for key, value in content.items() if not isinstance(value, dict)}


def test_a_person_is_asked_for_each_setting_until_the_answer_follows_its_rule(operator: Operator):
    with hetzner() as cloud:
        terminal = Terminal(operator, HCLOUD_TOKEN=TOKEN, HCLOUD_ENDPOINT=cloud.url)
        terminal.answer("Domain", "https://example.org\n")
        assert "is not a domain name in lower case, without scheme and port" in terminal.answer("Domain", "\n")
        terminal.answer("Domain", "example.org\n")
        terminal.answer("E-mail", "me\n")
        assert "'me' is not an e-mail address" in terminal.answer("E-mail", "me@example.org\n")
        assert "[example.org]" in terminal.answer("Cloudflare zone", "\n")
        assert "[nbg1]" in terminal.answer("Hetzner location", "hel1\n")
        types = terminal.answer("Hetzner server type", "cax11\n")
        terminal.answer("Network", "10.0.0.1\n")
        assert "is a private network" in terminal.answer("Network", "198.51.100.10\n")
        assert terminal.end() == 0, terminal.shown
    assert "cax11  arm, 2 cores, 4 GB of memory, 40 GB of disk: 4.76 EUR a month with VAT" in types
    prices = [float(price) for price in re.findall(r": ([\d.]+) EUR a month", types)]
    assert prices == sorted(prices) and len(prices) > 2
    assert TOKEN not in types
    assert settings(operator) == SETTINGS
    assert "made headscale's noise key" in terminal.shown


def test_the_offer_is_what_a_location_has_and_what_can_become_nixos():
    with hetzner() as cloud:
        hetzner_api = api.hetzner(cloud.url, {"Authorization": f"Bearer {TOKEN}"})
        (line,) = server_types("ash", hetzner_api)
        cloud.emulator.project.sold_out["cpx22", "ash"] = True
        assert server_types("ash", hetzner_api) == []
    assert line == "cpx22  x86, 2 cores, 4 GB of memory, 80 GB of disk: 9.52 EUR a month with VAT"


def test_each_answer_is_a_flag_and_then_nothing_is_asked(operator: Operator):
    terminal = Terminal(operator, *FLAGS, *MORE)
    assert terminal.end() == 0, terminal.shown
    assert settings(operator) == SETTINGS
    before = operator.files()
    terminal = Terminal(operator)
    assert terminal.end() == 0, terminal.shown
    operator.init(*FLAGS)
    after = operator.files()
    assert {name for name in before if before[name][0] != after[name][0]} == set()


def test_without_a_terminal_nothing_is_asked_and_flags_are_taken(operator: Operator):
    output = operator.init(*FLAGS[:2])
    assert settings(operator) == {"headscale:domain": "example.org"}
    assert "set headscale:domain to example.org in Pulumi.mine.yaml" in output


def test_what_has_a_default_is_not_asked_of_a_stack_that_has_its_keys(operator: Operator):
    operator.init()
    terminal = Terminal(operator)
    terminal.answer("Domain", "example.org\n")
    terminal.answer("E-mail", "me@example.org\n")
    assert terminal.end() == 0, terminal.shown
    assert settings(operator) == dict([*SETTINGS.items()][:2])


def test_without_prices_the_question_is_asked_all_the_same(operator: Operator):
    with hetzner() as cloud:
        terminal = Terminal(operator, *FLAGS, HCLOUD_TOKEN="z" * 64, HCLOUD_ENDPOINT=cloud.url)
        question = terminal.answer("Hetzner server type", "\n")
        terminal.answer("Network", "\n")
        assert terminal.end() == 0, terminal.shown
    assert "No prices: 401, unable to authenticate" in question
    assert settings(operator)["headscale:serverType"] == "cx23"
    assert "headscale:adminNetworks" not in settings(operator)


@pytest.mark.parametrize("end", ["\x04", "\x03"], ids=["end of input", "interrupt"])
def test_interrupted_at_a_question_it_has_changed_nothing(operator: Operator, end: str):
    before = operator.files()
    terminal = Terminal(operator)
    terminal.answer("Domain", "example.org\n")
    terminal.answer("E-mail", end)
    assert terminal.end() == 1
    assert "scripts/init: interrupted; another run" in terminal.shown
    assert "Traceback" not in terminal.shown
    assert operator.files() == before


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--domain", "Example.org"), "--domain: 'Example.org' is not a domain name in lower case"),
        (("--server-type", "large"), "--server-type: 'large' is not a Hetzner server type such as cx23"),
        (("--admin-network", "192.168.1.0/24"), "is a private network: a server on the internet never sees"),
    ],
)
def test_a_wrong_flag_is_reported_by_its_rule(operator: Operator, flags: tuple[str, ...], sentence: str):
    before = operator.files()
    assert sentence in operator.refused(*flags)
    assert operator.files() == before


def test_a_flag_does_not_change_what_is_set_and_names_the_command_that_does(operator: Operator):
    operator.init(*FLAGS, *MORE)
    before = operator.files()
    refusals = [operator.refused("--location", "nbg1"), operator.refused("--admin-network", "203.0.113.9")]
    assert operator.files() == before
    for command in [re.findall("`(pulumi config set .*?)`", output)[0] for output in refusals]:
        operator.run("sh", "-c", command)
    changes = {"headscale:location": "nbg1", "headscale:adminNetworks": ["203.0.113.9"]}
    assert settings(operator) == SETTINGS | changes


def test_a_stack_called_prod_is_asked_for_a_domain_of_its_own(operator: Operator):
    makers = yaml.safe_load((PROGRAM / "Pulumi.prod.yaml").read_text())["config"]["headscale:domain"]
    operator.run("pulumi", "stack", "init", "prod", *BY_VAULT)
    terminal = Terminal(operator)
    word = terminal.answer("Domain", "example.org\n")
    assert f"Pulumi.prod.yaml came with this repository, and {makers} is its maker's domain" in word
    terminal.answer("E-mail", "\x04")
    terminal.end()
    output = operator.init("--domain", "example.org")
    assert "came with this repository" not in output
    assert settings(operator, "prod")["headscale:domain"] == "example.org"


def test_a_project_can_be_made_by_pulumi_new(tmp_path: Path, engine: Path):
    """Without its last steps, a stack and the packages, for which it needs the network."""
    tracked = subprocess.run(["git", "ls-files"], cwd=PROGRAM, check=True, capture_output=True, text=True).stdout
    template, copy, home = tmp_path / "template", tmp_path / "copy", tmp_path / "home"
    for name in tracked.splitlines():
        (template / name).parent.mkdir(parents=True, exist_ok=True)
        (template / name).write_bytes((PROGRAM / name).read_bytes())
        (template / name).chmod((PROGRAM / name).stat().st_mode)
    copy.mkdir()
    home.mkdir()
    environment = os.environ | {
        "PATH": f"{engine}:{os.environ['PATH']}",
        "HOME": str(home),
        "PULUMI_BACKEND_URL": f"file://{home}",
        "PULUMI_CONFIG_PASSPHRASE": secrets.token_urlsafe(),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
    }

    def pulumi(*arguments: str) -> str:
        command = ["pulumi", *arguments]
        process = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
        assert process.returncode == 0, process.stdout + process.stderr
        return process.stdout

    pulumi("new", str(template), "--generate-only", "--yes")
    assert {str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()} >= set(tracked.splitlines())
    assert os.access(copy / "scripts/init", os.X_OK)
    project = yaml.safe_load((copy / "Pulumi.yaml").read_text())
    assert project["name"] == "headscale", "the program reads its settings in this name"
    assert "template" not in project
    pulumi("stack", "init", "mine")
    assert "headscale:domain" not in yaml.safe_load(pulumi("config", "--json"))
