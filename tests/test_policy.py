"""A policy is headscale's to judge: what it takes is taken; frequent mistakes are told before there is a server.

policies/ has one liberty or one mistake in each file.
"""

import json
import subprocess
from pathlib import Path

import pytest

import policy
from rules import Rejected

HERE = Path(__file__).parent / "policies"
TAKEN, REFUSED = (sorted((HERE / verdict).iterdir()) for verdict in ("taken", "refused"))


@pytest.mark.parametrize("file", TAKEN, ids=lambda file: file.stem)
def test_what_headscale_takes_is_taken(file: Path):
    assert policy.checked(file) == file


@pytest.mark.parametrize("file", REFUSED, ids=lambda file: file.stem)
def test_what_headscale_refuses_is_reported(file: Path):
    with pytest.raises(Rejected) as problem:
        policy.checked(file)
    assert len(str(problem.value)) < 400


@pytest.mark.parametrize("file", [*TAKEN, *REFUSED], ids=lambda file: file.stem)
def test_headscale_judges_alike(file: Path, engine: Path, tmp_path: Path):
    """headscale sees the policy as it is built: without its tests, which are about users and nodes."""
    built = tmp_path / "policy.hujson"
    built.write_bytes(policy.without_tests(file.read_text()).encode() if file in TAKEN else file.read_bytes())
    settings = {
        "server_url": "https://headscale.example.org",
        "noise": {"private_key_path": str(tmp_path / "key")},
        "prefixes": {"v4": "100.64.0.0/10", "v6": "fd7a:115c:a1e0::/48"},
        "database": {"type": "sqlite", "sqlite": {"path": str(tmp_path / "db.sqlite")}},
        "dns": {"base_domain": "ts.example.org", "override_local_dns": False},
        "derp": {"urls": [], "paths": []},
    }
    (tmp_path / "headscale.yaml").write_text(json.dumps(settings))
    command = [engine / "headscale", "--config", tmp_path / "headscale.yaml", "policy", "check", "--file", built]
    process = subprocess.run(
        [*command, "--force", "--bypass-grpc-and-access-database-directly"], capture_output=True, text=True
    )
    assert (process.returncode == 0) == (file in TAKEN), process.stderr


WITH_TESTS = """\
{
  // "tests": [],
  "tests": [ /* ] */ { "src": "ann@", "accept": ["tag:srv:22"] }, ],
  "acls": [ { "action": "accept", "src": ["*"], "dst": ["*:*"] } ],
  "SSHTests": null
}
"""


def test_a_policy_without_its_tests_is_the_same_at_every_other_place():
    built = policy.without_tests(WITH_TESTS)
    assert policy.parsed(built) == {"acls": policy.parsed(WITH_TESTS)["acls"]}
    assert len(built) == len(WITH_TESTS)
    assert all(new in (old, " ") for new, old in zip(built, WITH_TESTS, strict=True))
    assert [len(line) for line in built.splitlines()] == [len(line) for line in WITH_TESTS.splitlines()]


def test_a_policy_without_tests_is_left_as_it_is():
    for text in ("", '{"acls": [],} // end\n', '{\n  "hosts": {"tests": "100.64.0.1"}\n}'):
        assert policy.without_tests(text) == text


@pytest.mark.parametrize("text", ["[" * 100_000, '{"acls": ' + "[" * 5000, "{" + '"a":{' * 5000])
def test_a_policy_nested_deeply_is_reported(tmp_path: Path, text: str):
    (tmp_path / "deep.hujson").write_text(text)
    with pytest.raises(Rejected):
        policy.checked(tmp_path / "deep.hujson")
