"""Values that others typed: each mistake is a sentence with its repair, shows no secret, and stops the run at once."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mocked import HOST, SECRETS, SOPS_VALUES
from test_config import LINE, OTHER

import rules
from config import DECLARED, ConfigError

ME = str(HOST.to_public())
TEXTS = sorted(key for key, entry in DECLARED.items() if entry["type"] == "string" and not entry.get("secret"))
LISTS = sorted(key for key, entry in DECLARED.items() if entry["type"] == "array")
SECRET_VALUES = {
    "a private key": SECRETS["deployKey"],
    "a private key on one line": " ".join(SECRETS["deployKey"].split()),
    "a path of a private key": "/".join(SECRETS["deployKey"].split()),
    "an age identity": SECRETS["hostAgeKey"],
    "an age identity in lower case": SECRETS["hostAgeKey"].lower(),
    "a token of Hetzner": "Zq3" + "k9LmX2vB7" * 6 + "Wq8Rt1Y",
    "a token of Cloudflare": "v8Jq2LmX0aRt5YpWk3ZsNd7BfGh1CuEo9TiVxMlQ",
    "a key to join by": "hskey-auth-a1B2c3D4e5F6-" + "q7W8e9R0" * 8,
    "headscale's noise key": SOPS_VALUES["headscale_noise_private_key"],
    "an API key in a sentence": f"my key is {SOPS_VALUES['headscale_api_key']}",
}


def mistakes(program: Callable, **config: object) -> list[str]:
    """The lines that the program ends with."""
    with pytest.raises(ConfigError) as error:
        program(**config)
    return str(error.value).splitlines()[1:]


@pytest.mark.parametrize("value", SECRET_VALUES.values(), ids=SECRET_VALUES)
def test_no_key_shows_a_secret_that_was_given_to_it_by_mistake(program: Callable, recorded: dict, value: str):
    settings = {key: value for key in TEXTS if key != "formerDeployKey"} | {key: [value] for key in LISTS}
    output = "\n".join(mistakes(program, **settings))
    parts = [part for part in value.split() if len(part) > 20] + [part for part in value.split("-") if len(part) > 20]
    assert all(part not in output for part in parts), output
    assert all(f"headscale:{key}" in output for key in settings if key not in ("baseDomain", "formerSshHostKey")), (
        output
    )
    assert recorded == {}


# The engine refuses the others: Pulumi.yaml declares them as secrets.
@pytest.mark.parametrize("key", ["deployKey", "formerDeployKey"])
def test_a_secret_in_clear_is_refused(program: Callable, key: str):
    value = SECRETS.get(key, SECRETS["deployKey"])
    (line,) = mistakes(program, in_clear=(key,), **{key: value})
    assert f"headscale:{key}: is in clear in the stack's configuration" in line
    assert "BEGIN" not in line


def test_one_wrong_domain_is_one_line(program: Callable):
    assert len(mistakes(program, domain="Example.org")) == 1
    assert len(mistakes(program, domain="münchen.de")) == 1
    assert "that is xn--mnchen-3ya.de" in mistakes(program, domain="münchen.de")[0]
    assert len(mistakes(program, users=["Bob"])) == 1


KEYS = {
    "CRLF": lambda key: key.replace("\n", "\r\n"),
    "CR": lambda key: key.replace("\n", "\r"),
    "one line": lambda key: key.replace("\n", " "),
    "indented": lambda key: "".join(f"  {line}\n" for line in key.splitlines()),
    "text before": lambda key: f"Comment: mine\n{key}",
    "text behind": lambda key: f"{key}\nsent from my phone",
}


@pytest.mark.parametrize("spoil", KEYS.values(), ids=KEYS)
def test_a_key_is_kept_as_openssh_reads_it(spoil: Callable[[str], str], tmp_path: Path):
    good, file = SECRETS["deployKey"], tmp_path / "key"
    file.touch(mode=0o600)
    file.write_text(rules.openssh_form(spoil(good)))
    printed = subprocess.run(["ssh-keygen", "-y", "-f", file], capture_output=True, text=True)
    assert printed.stdout.split()[:2] == rules.private_key(spoil(good)).split()[:2], printed.stderr
    assert rules.openssh_form(good) == good, "a good key goes on as it is"


NOT_LINES = {
    "a second line": f"{LINE}\nssh-ed25519 AAAA",
    "CRLF": f"{LINE}\r",
    "options": f'from="198.51.100.0/24" {LINE}',
    "an authority": f"cert-authority {LINE}",
    "a misspelt type": LINE.replace("ssh-ed25519", "ssh-ed25591", 1),
    "no key": "ssh-ed25519 me@laptop",
    "a private key": SECRETS["deployKey"],
    "a certificate": LINE.replace("ssh-ed25519", "ssh-ed25519-cert-v01@openssh.com", 1),
}


@pytest.mark.parametrize("line", NOT_LINES.values(), ids=NOT_LINES)
def test_a_line_that_is_not_a_key_is_a_mistake_among_others(program: Callable, line: str):
    output = mistakes(program, authorizedKeys=[line], location="Nuremberg")
    assert [line.split(":")[1] for line in output] == ["location", "authorizedKeys[0]"]


GOOD = {
    "an address at an international domain": {"acmeEmail": "admin@xn--e1afmkfd.xn--p1ai"},
    "an apostrophe": {"acmeEmail": "o'neil@example.net"},
    "a long domain": {"domain": "engineering.subsidiary-example.co.uk"},
    "a very long name": {"headscaleName": f"{'a' * 60}.{'b' * 60}.{'c' * 38}.example.org"},
    "a key in hardware": {
        "authorizedKeys": [
            "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIKUT1M6fHJDBWmMTfd1rGfT0P2dCFQ9T"
            "EZcyyjGcp9VnAAAABHNzaDo= me"
        ]
    },
    "a serial by date": {"preauthKeySerial": "2026-11-26 22:00"},
}


@pytest.mark.parametrize("config", GOOD.values(), ids=GOOD)
def test_what_works_is_taken(program: Callable, config: dict):
    program(**config)


BAD = {
    "letters of another script": ({"serverType": "cx\uff12\uff13"}, "is not a Hetzner server type"),
    "digits of another script": ({"preauthKeyExpiration": "\u0662\u0664h"}, "is not a duration"),
    "a long s": ({"acmeEmail": "me@example.or\u017f"}, "is not an e-mail address"),
    "two dots": ({"acmeEmail": "me..you@example.org"}, "is not an e-mail address"),
    "400 digits": ({"preauthKeyExpiration": "9" * 400 + "h"}, "is not a duration"),
    "a port beyond": ({"acmeServer": "https://acme.example.org:70000/"}, "has a port above 65535"),
    "NUL in a path": ({"policyFile": "nix/\0"}, "has a line break or another control character"),
    "a name too long": ({"uiName": f"{'a' * 60}.{'b' * 60}.{'c' * 39}.example.org"}, "at most 172"),
    "an empty serial": ({"preauthKeySerial": " " * 101}, "is not a short text that changes"),
    "this network": ({"adminNetworks": ["0.0.0.0/8"]}, "is a private network"),
    "site-local": ({"adminNetworks": ["fec0::/10"]}, "is a private network"),
    "an interface": ({"extraRecords": ["a.ts.example.org fe80::1%eth0"]}, "names an interface"),
    "a device": ({"policyFile": "/dev/zero"}, "is not a file but a device"),
    "a device for secrets": ({"secretsFile": "/dev/zero"}, "is not a file but a device"),
}


@pytest.mark.parametrize(("config", "words"), BAD.values(), ids=BAD)
def test_what_does_not_work_is_one_sentence(program: Callable, recorded: dict, config: dict, words: str):
    (line,) = mistakes(program, **config)
    assert words in line
    assert "`pulumi config set " in line
    assert len(line) < 400
    assert recorded == {}


@pytest.mark.parametrize("stack", ["my_stack", "dev.eu", "-x", "a" * 54])
def test_a_stack_whose_name_is_not_a_host_name_is_reported(program: Callable, stack: str):
    (line,) = mistakes(program, stack=stack)
    assert "which is not a host name" in line or "is not a host name" in line
    assert "`pulumi stack rename NAME`" in line


@pytest.mark.parametrize("key", ["policyFile", "secretsFile"])
def test_a_pipe_or_a_huge_file_does_not_hold_the_program_up(program: Callable, tmp_path: Path, key: str):
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "huge").open("wb") as huge:
        huge.truncate(1 << 40)
    begin = time.monotonic()
    assert "a pipe" in mistakes(program, **{key: str(tmp_path / "pipe")})[0]
    assert "no file of its kind has more than" in mistakes(program, **{key: str(tmp_path / "huge")})[0]
    assert time.monotonic() - begin < 20


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
SOPS_FILES = {
    "empty": (lambda good: "", "is empty"),
    "a comment": (lambda good: "# mine\n", "is empty"),
    "truncated": (lambda good: good.partition("sops:")[0], "was cut off"),
    "aliases": (lambda good: BOMB + good, "has YAML aliases in it"),
    "nested": (lambda good: "a: " + "[" * 1500 + "]" * 1500 + "\n" + good, "cannot be read as YAML"),
    "a name twice": (lambda good: good.splitlines()[0] + "\n" + good, "twice"),
    "binary": (lambda good: "\x00\x01", "cannot be read as YAML"),
    "a list": (lambda good: "[1, 2]", "is not encrypted"),
}


@pytest.mark.parametrize(("spoil", "words"), SOPS_FILES.values(), ids=SOPS_FILES)
def test_a_spoilt_sops_file_is_reported_with_its_repair(
    program: Callable, secrets_file: Path, tmp_path: Path, spoil: Callable[[str], str], words: str
):
    (tmp_path / "spoilt.yaml").write_text(spoil(secrets_file.read_text()))
    begin = time.monotonic()
    (line,) = mistakes(program, secretsFile=str(tmp_path / "spoilt.yaml"))
    assert words in line
    assert time.monotonic() - begin < 20


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([[OTHER], [ME]], "has 2 key groups, 2 of which have to open it, and the server's age key, "),
        ([[ME, OTHER], [ME]], ""),
    ],
)
def test_key_groups_open_with_enough_of_them(
    program: Callable, engine: Path, tmp_path: Path, groups: list[list[str]], message: str
):
    rule = "".join(f"  - age: [{', '.join(group)}]\n" for group in groups)
    (tmp_path / ".sops.yaml").write_text(f"creation_rules:\n- key_groups:\n{rule}")
    file = tmp_path / "s.yaml"
    file.write_text("".join(f"{name}: {value}\n" for name, value in SOPS_VALUES.items()))
    subprocess.run([engine / "sops", "--config", tmp_path / ".sops.yaml", "encrypt", "-i", file], check=True)
    if message:
        assert message in mistakes(program, secretsFile=str(file))[0]
    else:
        program(secretsFile=str(file))
