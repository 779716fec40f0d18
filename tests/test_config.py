"""Mistakes in the configuration stop the run before the engine is asked for anything."""

import re
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import asyncssh
import pulumi
import pytest
from mocked import HOST, PROGRAM, SECRETS, SOPS_VALUES, defaults
from pyrage import x25519

import sops
from components.ending import Refusal
from config import DECLARED, ConfigError

LINE = asyncssh.import_private_key(SECRETS["deployKey"]).export_public_key().decode().strip()
RSA = asyncssh.generate_private_key("ssh-rsa", key_size=1024)


def locked_key() -> str:
    with tempfile.TemporaryDirectory() as directory:
        keygen_command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "passphrase", "-f", f"{directory}/key"]
        subprocess.run(keygen_command, check=True)
        return Path(directory, "key").read_text()


LOCKED = locked_key()

BAD = [
    ("domain", "", "'' is not a domain name"),
    ("domain", "Example.org", "'Example.org' is not a domain name"),
    ("domain", "localhost", "'localhost' is not a domain name"),
    ("domain", "https://example.org", "'https://example.org' is not a domain name"),
    ("domain", "example.org.", "'example.org.' is not a domain name"),
    ("domain", "-example.org", "'-example.org' is not a domain name"),
    ("domain", f"{'a' * 64}.org", "is not a domain name"),
    ("domain", "203.0.113.10", "'203.0.113.10' is not a domain name"),
    ("zone", "example", "'example' is not a domain name"),
    ("zone", "example.net", "headscale:headscaleName: 'headscale.example.org' is not in the zone example.net"),
    ("zone", "ample.org", "headscale:uiName: 'headscale-ui.example.org' is not in the zone ample.org"),
    ("headscaleName", "vpn.example.net", "'vpn.example.net' is not in the zone example.org"),
    ("formerHeadscaleNames", ["hs.example.net"], "'hs.example.net' is not in the zone example.org"),
    ("formerHeadscaleNames", ["hs.example.org example.net"], "'hs.example.org' is not in the zone example.net"),
    ("formerHeadscaleNames", ["headscale.example.org"], "'headscale.example.org' is a current name as well"),
    ("formerHeadscaleNames", ["hs.example.org", "hs.example.org"], "is listed twice"),
    ("formerHeadscaleNames", ["ts.example.org"], "headscale:baseDomain: 'ts.example.org' must not be ts.example.org"),
    ("headscaleName", "headscale.example.org:443", "is not a domain name in lower case, without scheme and port"),
    ("headscaleName", "headscale-ui.example.org", "headscale:uiName: 'headscale-ui.example.org' is headscale's name"),
    ("headscaleName", "ts.example.org", "headscale:baseDomain: 'ts.example.org' must not be ts.example.org"),
    ("uiName", "ui_1.example.org", "'ui_1.example.org' is not a domain name"),
    ("uiName", "ui.ts.example.org", "headscale:baseDomain: 'ts.example.org' must not be ui.ts.example.org"),
    ("baseDomain", "ts", "'ts' is not a domain name"),
    ("baseDomain", "example.org", "must not be headscale.example.org or a parent of it"),
    ("baseDomain", "headscale.example.org", "must not be headscale.example.org or a parent of it"),
    ("acmeEmail", "", "'' is not an e-mail address"),
    ("acmeEmail", "me", "'me' is not an e-mail address"),
    ("acmeEmail", "me@localhost", "'me@localhost' is not an e-mail address"),
    ("acmeEmail", "me@example.org, you@example.org", "is not an e-mail address"),
    ("acmeServer", "http://acme.example.org/dir", "is not an https:// address"),
    ("acmeServer", "letsencrypt", "'letsencrypt' is not an https:// address"),
    ("serverType", "big one", "'big one' is not a Hetzner server type"),
    ("serverType", "CX23", "'CX23' is not a Hetzner server type"),
    ("serverType", "t3.micro", "'t3.micro' is not a Hetzner server type"),
    ("location", "Nuremberg", "'Nuremberg' is not a Hetzner location"),
    ("location", "nbg1-dc3", "'nbg1-dc3' is not a Hetzner location"),
    ("adminNetworks", ["203.0.113.7/24"], "'203.0.113.7/24' has host bits set; the network is 203.0.113.0/24"),
    ("adminNetworks", ["2001:db8::1/32"], "has host bits set; the network is 2001:db8::/32"),
    ("adminNetworks", ["home"], "'home' is not a network"),
    ("adminNetworks", ["203.0.113.0/33"], "'203.0.113.0/33' is not a network"),
    ("adminNetworks", ["203.0.113.0/24", "203.0.113.0/24"], "'203.0.113.0/24' is listed twice"),
    ("adminNetworks", ["2001:db8::/32", "2001:0DB8::/32"], "is listed twice"),
    ("adminNetworks", ["192.168.1.0/24"], "is a private network: a server on the internet never sees its addresses"),
    ("adminNetworks", ["fd00::/8"], "is a private network"),
    ("adminNetworks", ["169.254.0.0/16"], "is a private network"),
    ("adminNetworks", ["fe80::%eth0/64"], "names an interface of one machine"),
    ("adminNetworks", ["::ffff:203.0.113.0/120"], "written as IPv6, which matches no client; write 203.0.113.0/24"),
    ("adminNetworks", [f"203.0.{n}.0/24" for n in range(101)], "names 101 networks; Hetzner's firewall takes 100"),
    ("uiAllowedNetworks", ["10.0.0.0/8"], "is a private network"),
    ("uiAllowedNetworks", ["10.0.0.1/8"], "the network is 10.0.0.0/8"),
    ("authorizedKeys", [""], "'' is not a public SSH key"),
    ("authorizedKeys", ["ssh-ed25519"], "'ssh-ed25519' is not a public SSH key"),
    ("authorizedKeys", ["ssh-ed25519 AAAA me"], "'ssh-ed25519 AAAA me' is not a public SSH key"),
    ("authorizedKeys", ["ssh-dss AAAAB3NzaC1kc3MAAACB me"], "of a type that sshd takes"),
    ("authorizedKeys", [LINE, LINE], "is listed twice"),
    ("extraRecords", ["grafana.ts.example.org"], "'grafana.ts.example.org' is not of the form"),
    ("extraRecords", ["grafana 100.64.0.9"], "'grafana 100.64.0.9' is not a domain name"),
    ("extraRecords", ["grafana.ts.example.org 100.64.0"], "is not of the form"),
    ("users", [], "must name at least one user"),
    ("users", ["bob", "bob"], "'bob' is listed twice"),
    ("users", ["Bob"], "'Bob' is not a user name"),
    ("users", ["b"], "'b' is not a user name"),
    ("users", ["bob smith"], "'bob smith' is not a user name"),
    ("users", ["bob@example.org"], "'bob@example.org' is not a user name"),
    ("users", ["1bob"], "'1bob' is not a user name"),
    ("users", ["bob-"], "'bob-' is not a user name"),
    ("users", ["b" * 64], "is not a user name of 2 to 63"),
    ("preauthKeyExpiration", "", "'' is not a duration"),
    ("preauthKeyExpiration", "a day", "'a day' is not a duration"),
    ("preauthKeyExpiration", "24", "'24' is not a duration"),
    ("preauthKeyExpiration", "1h1d", "'1h1d' is not a duration"),
    ("preauthKeyExpiration", "1.5h", "'1.5h' is not a duration"),
    ("preauthKeyExpiration", "0s", "'0s' is not between a minute and a hundred years"),
    ("preauthKeyExpiration", "300y", "'300y' is not between a minute and a hundred years"),
    ("preauthKeyTags", ["server"], "'server' is not a tag such as tag:server"),
    ("preauthKeyTags", ["tag:Server"], "'tag:Server' is not a tag"),
    ("preauthKeyTags", ["tag:a", "tag:a"], "'tag:a' is listed twice"),
    ("preauthKeyTags", ["tag:web"], "'tag:web' is not among the tagOwners of nix/policy.hujson"),
    ("policyFile", "nix/none.hujson", "'nix/none.hujson' cannot be read: No such file"),
    ("policyFile", "nix", "'nix' cannot be read: Is a directory"),
    (
        "secretsFile",
        "nix",
        "'nix' cannot be read: Is a directory; `pulumi config set --plaintext headscale:secretsFile ...`",
    ),
    ("deployKey", "not a key", "is not a private key in OpenSSH form"),
    ("deployKey", LINE, "is not a private key in OpenSSH form"),
    ("deployKey", LOCKED, "has a passphrase"),
    ("deployKey", RSA.export_private_key().decode(), "is not an ed25519 key"),
    ("deployKey", SECRETS["sshHostKey"], "headscale:sshHostKey: is the deploy key as well"),
    ("factsKey", SECRETS["deployKey"], "headscale:factsKey: logs in as root, too"),
    ("factsKey", LOCKED, "has a passphrase"),
    ("hostFacts", "false", "is for previews: `pulumi up` has to ask the server"),
    ("sshHostKey", SECRETS["sshHostKey"][:-40], "is not a private key in OpenSSH form"),
    ("hostAgeKey", str(HOST.to_public()), "is not an age identity"),
    ("hostAgeKey", "AGE-SECRET-KEY-1QQQQ", "is not an age identity"),
    ("domian", "example.org", "unknown key headscale:domian; did you mean headscale:domain?"),
    ("admin_networks", ["203.0.113.0/24"], "did you mean headscale:adminNetworks?"),
    ("qqqq", "1", "unknown key headscale:qqqq; `pulumi config rm headscale:qqqq` removes it"),
]
BAD_POLICIES = [
    ("{", "is not HuJSON"),
    ('{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}} // ]', "is not HuJSON"),
    ("[]", "is not an object"),
    ('{"acl": []}', "has fields that headscale does not know: acl"),
    ('{"acls": [{"action": "drop", "src": ["*"], "dst": ["*:*"]}]}', 'whose action is not "accept"'),
    ('{"acls": [{"action": "accept", "src": "*", "dst": ["*:*"]}]}', "src is not a list of names"),
    ('{"tagOwners": ["tag:web"]}', "has tagowners that is not an object"),
]
ME = str(HOST.to_public())
OTHER = str(x25519.Identity.generate().to_public())
NOISE, API = SOPS_VALUES
RESTORE = "restore it from git"
BAD_SECRETS = [
    (lambda good: None, "does not exist", "`scripts/init` makes it"),
    (lambda good: "a: [", "cannot be read as YAML", RESTORE),
    (lambda good: "just text", "is not encrypted", "`sops encrypt --in-place FILE`"),
    (
        lambda good: f"{NOISE}: {SOPS_VALUES[NOISE]}\n",
        "is not encrypted: it has no `sops` entry",
        "`sops encrypt --in-place FILE`",
    ),
    (lambda good: f"a: hunter2\n{good}", "holds a in clear", "`sops edit FILE`"),
    (lambda good: f"a: {{b: [hunter2]}}\n{good}", "holds a:b in clear", "`sops edit FILE`"),
    (
        lambda good: re.sub("(?s)age:.*(    lastmod)", r"age: me\n\1", good),
        "is not encrypted to the server's",
        ".sops.yaml",
    ),
    (lambda good: re.sub("    mac: .*\n", "", good), "its MAC cannot be decrypted", RESTORE),
    (lambda good: good.replace(ME, OTHER), f"is not encrypted to the server's age key, {ME}", "`sops updatekeys FILE`"),
    (
        lambda good: re.sub("(?s)    age:.*(    lastmod)", r"\1", good),
        "is not encrypted to the server's age key",
        ".sops.yaml",
    ),
    (lambda good: re.sub(r"( {12}[A-Za-z0-9+/]{60})...", r"\1AAA", good), f"{ME} does not open it", RESTORE),
    (lambda good: good.replace("data:", "data:AA", 1), f"{NOISE} cannot be decrypted", RESTORE),
    (lambda good: re.sub("tag:....", "tag:====", good), "was changed without sops", RESTORE),
    (lambda good: good.replace("AES256_GCM", "AES256_CBC", 1), f"{NOISE} cannot be decrypted", RESTORE),
    (lambda good: good.replace(API, NOISE + "2"), f"{NOISE}2 cannot be decrypted", RESTORE),
    (lambda good: "".join(good.splitlines(keepends=True)[1:]), "its MAC is of other values", RESTORE),
    (
        lambda good: "".join(reversed(good.splitlines(True)[:2])) + "".join(good.splitlines(True)[2:]),
        "its MAC is of other values",
        RESTORE,
    ),
    (lambda good: good.replace('lastmodified: "2', 'lastmodified: "1'), "its MAC cannot be decrypted", RESTORE),
]
BAD_VALUES = [
    (NOISE, None, f"lacks {NOISE}", "`scripts/init` adds it"),
    (API, None, f"lacks {API}", "`scripts/init` adds it"),
    (API, "", f"lacks {API}", "`scripts/init` adds it"),
    (NOISE, "0123456789abcdef" * 4, f"holds a {NOISE} that is not privkey:", f"`sops unset FILE '[\"{NOISE}\"]'`"),
    (NOISE, SOPS_VALUES[NOISE][:-1], f"holds a {NOISE} that is not privkey:", "`scripts/init` makes another"),
    (NOISE, SOPS_VALUES[NOISE] + "\n", f"holds a {NOISE} that is not privkey:", "`scripts/init` makes another"),
    (API, "hunter2" * 6, f"holds a {API} that is not hskey-api-", f"`sops unset FILE '[\"{API}\"]'`"),
    (API, SOPS_VALUES[API] + "=", f"holds a {API} that is not hskey-api-", "`scripts/init` makes another"),
]


@pytest.mark.parametrize(("key", "value", "message"), BAD, ids=[f"{row[0]}-{at}" for at, row in enumerate(BAD)])
def test_a_mistake_is_reported_and_stops_the_run(
    program: Callable, recorded: dict, key: str, value: object, message: str
):
    with pytest.raises(ConfigError) as error:
        program(**{key: value})
    assert message in str(error.value)
    assert "`pulumi config " in str(error.value)
    assert recorded == {}


@pytest.mark.parametrize(("text", "message"), BAD_POLICIES)
def test_a_policy_that_headscale_cannot_read_is_reported(program: Callable, tmp_path: Path, text: str, message: str):
    (tmp_path / "policy.hujson").write_text(text)
    with pytest.raises(ConfigError, match=re.escape(message)):
        program(policyFile=str(tmp_path / "policy.hujson"))


@pytest.mark.parametrize(("spoil", "message", "repair"), BAD_SECRETS)
def test_a_secrets_file_that_the_server_cannot_open_is_reported(
    program: Callable, recorded: dict, secrets_file: Path, tmp_path: Path, spoil: Callable, message: str, repair: str
):
    good, bad = secrets_file.read_text(), tmp_path / "bad.yaml"
    if (text := spoil(good)) is not None:
        assert text != good
        bad.write_text(text)
    with pytest.raises(ConfigError) as error:
        program(secretsFile=str(bad))
    assert re.search(f"{re.escape(message)}.*; .*{re.escape(repair.replace('FILE', str(bad)))}", str(error.value))
    assert "hunter2" not in str(error.value)
    assert recorded == {}


def test_a_secrets_file_of_another_name_is_found(program: Callable, secrets_file: Path, tmp_path: Path):
    """After `pulumi stack rename`, the file has the stack's former name."""
    former, own = tmp_path / "former.yaml", tmp_path / "own.yaml"
    former.write_text(secrets_file.read_text())
    (tmp_path / "another.yaml").write_text(secrets_file.read_text().replace(ME, OTHER))
    with pytest.raises(
        ConfigError, match=f"does not exist; {former} is encrypted to this stack's server: .*`mv {former} {own}`"
    ):
        program(secretsFile=str(own))


@pytest.mark.parametrize("key", ["headscaleName", "uiName"])
def test_an_extra_record_does_not_hide_a_name_of_the_server(program: Callable, key: str):
    with pytest.raises(ConfigError, match=r"extraRecords\[0\]: 'vpn.example.org' is a name of this server"):
        program(**{key: "vpn.example.org", "extraRecords": ["vpn.example.org 100.64.0.9"]})


@pytest.mark.parametrize(("name", "value", "message", "repair"), BAD_VALUES)
def test_a_secret_that_headscale_cannot_use_is_reported(
    program: Callable,
    recorded: dict,
    sops_file: Callable,
    tmp_path: Path,
    name: str,
    value: str | None,
    message: str,
    repair: str,
):
    values = {key: text for key, text in (SOPS_VALUES | {name: value}).items() if text is not None}
    bad = sops_file(tmp_path / "bad.yaml", values, OTHER, ME)
    with pytest.raises(ConfigError) as error:
        program(secretsFile=str(bad))
    assert re.search(f"{re.escape(message)}.*; .*{re.escape(repair.replace('FILE', str(bad)))}", str(error.value))
    assert not value or value not in str(error.value)
    assert recorded == {}


@pytest.mark.parametrize("rule", ["", "    mac_only_encrypted: true\n"])
def test_whatever_else_sops_encrypts_may_stand_in_the_file(
    program: Callable, sops_file: Callable, tmp_path: Path, rule: str
):
    more = {"number": 7, "truth": True, "half": 0.5, "nothing": "", "deep": {"list": ["a", {"b": "c"}, 8]}}
    program(secretsFile=str(sops_file(tmp_path / "more.yaml", SOPS_VALUES | more, ME, OTHER, rule=rule)))


def test_opening_the_secrets_file_is_quick(secrets_file: Path):
    sops.checked(secrets_file, HOST)
    start = time.perf_counter()
    sops.checked(secrets_file, HOST)
    assert time.perf_counter() - start < 0.1


def test_several_mistakes_are_reported_together(program: Callable):
    with pytest.raises(ConfigError) as error:
        program(acmeEmail="me", users=[], domian="example.org")
    assert [line.split(":")[1].split()[0].rstrip(";") for line in str(error.value).splitlines()[1:]] == [
        "domian",
        "acmeEmail",
        "users",
    ]


def test_what_is_reported_of_a_secret_does_not_show_it(program: Callable):
    with pytest.raises(ConfigError) as error:
        program(deployKey="hunter2-hunter2", sshHostKey=LOCKED, hostAgeKey="AGE-SECRET-KEY-1HUNTER2")
    assert "hunter2" not in str(error.value).lower()
    assert LOCKED.splitlines()[1] not in str(error.value)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ("198.51.100.10/32", "is reserved for examples in documentation"),
        ("2001:db8:1::/48", "is reserved for examples in documentation"),
        ("100.64.0.0/10", "is used inside providers' networks and by Tailscale"),
        ("8.8.8.0/24", ""),
        ("0.0.0.0/0", ""),
        ("2a01:4f8::/32", ""),
    ],
)
def test_a_network_from_which_probably_no_client_comes_is_a_warning(
    program: Callable, monkeypatch: pytest.MonkeyPatch, network: str, words: str
):
    warnings: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", lambda text, *_: warnings.append(text))
    program(uiAllowedNetworks=[network])
    output = [warning for warning in warnings if warning.startswith(f"headscale:uiAllowedNetworks: {network} ")]
    assert bool(output) == bool(words)
    assert all(words in warning for warning in output)


def test_an_extra_record_that_split_dns_does_not_find_is_a_warning(program: Callable, monkeypatch: pytest.MonkeyPatch):
    warnings: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", lambda text, *_: warnings.append(text))
    program(extraRecords=["grafana.ts.example.org 100.64.0.9", "wiki.example.org 100.64.0.9"])
    assert [text.split()[1] for text in warnings if "extraRecords" in text] == ["wiki.example.org"]


def test_adminNetworks_that_shuts_this_program_out_is_refused_unless_it_is_meant(program: Callable):
    with pytest.raises(Refusal, match=r"adminNetworks leaves out 203\.0\.113\.7, .* 203\.0\.113\.7/32` adds it"):
        program(adminNetworks=["198.51.100.0/24"])
    program(adminNetworks=["198.51.100.0/24"], adminNetworksExcludeMe="true")
    program(adminNetworks=["198.51.100.0/24", "203.0.113.0/24"])


def test_a_file_of_comments_and_last_commas_is_a_policy(program: Callable, tmp_path: Path):
    (tmp_path / "policy.hujson").write_text('{ /* "," */ "hosts": { "a//b": "100.64.0.1/32", }, // ],\n }')
    program(policyFile=str(tmp_path / "policy.hujson"))


def test_good_values_of_every_key_are_taken(program: Callable, sops_file: Callable, tmp_path: Path):
    secrets = sops_file(tmp_path / "s.yaml", SOPS_VALUES, ME)
    policy = tmp_path / "policy.hujson"
    policy.write_text('{"tagOwners": {"tag:web": [],}} // nobody but the keys\n')
    program(
        zone="example.org",
        headscaleName="vpn.example.org",
        uiName="ui.example.org",
        baseDomain="net.vpn.example.org",
        formerHeadscaleNames=["headscale.example.org", "headscale.example.net example.net"],
        extraRecords=["grafana.ts.example.org 100.64.0.9", "six.ts.example.org fd7a:115c:a1e0::9"],
        acmeServer="https://acme.example.org:14000/dir",
        serverType="cax11",
        adminNetworks=["203.0.113.0/24", "2001:db8::/32"],
        authorizedKeys=[f"{LINE} me@laptop"],
        users=["alice", "bob-2"],
        preauthKeyExpiration="1d12h",
        preauthKeyTags=["tag:web"],
        policyFile=str(policy),
        secretsFile=str(secrets),
    )


def test_pulumi_yaml_declares_what_the_program_reads():
    read = set(re.findall(r'"([a-z][A-Za-z]+)"', (PROGRAM / "config.py").read_text().split("class _Reader")[1]))
    assert set(DECLARED) <= read
    assert set(defaults()) | {"domain", "acmeEmail"} | set(SECRETS) == set(DECLARED)
    assert all(entry["description"] for entry in DECLARED.values())
