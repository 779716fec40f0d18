"""The program's requests to the providers, and the secrets that it never shows."""

import base64
import io
import json
import subprocess
import tarfile
from pathlib import Path

import asyncssh
from mocked import HOST, SECRET, SECRETS, SOPS_VALUES, Inputs

from components.host_facts import HostFacts, UserFacts


def commands(inputs: Inputs) -> dict[str, dict]:
    return {name: values for name, values in inputs.items() if "connection" in values}


def revealed(value: object) -> str:
    """The clear part of recorded inputs: everything but the values marked as secret."""
    if isinstance(value, dict):
        return "" if SECRET in value else " ".join(revealed(part) for part in value.values())
    if isinstance(value, list):
        return " ".join(revealed(part) for part in value)
    return str(value)


def test_ssh_is_open_to_admin_networks_only(program):
    rules = program(adminNetworks=["203.0.113.0/24"])["server-firewall"]["rules"]
    assert [rule["sourceIps"] for rule in rules if rule.get("port") == "22"] == [["203.0.113.0/24"]]


def test_the_cloud_firewall_lets_in_what_the_host_serves_and_nothing_else(program):
    rules = program()["server-firewall"]["rules"]
    assert {(rule["protocol"], rule.get("port")) for rule in rules} == {
        ("tcp", "22"),
        ("tcp", "80"),
        ("tcp", "443"),
        ("udp", "3478"),
        ("icmp", None),
    }


def test_both_names_have_an_address_of_each_family_that_cloudflare_does_not_proxy(program):
    records = [values for values in program().values() if "proxied" in values]
    assert sorted((r["name"], r["type"], r["content"], r["proxied"]) for r in records) == [
        ("headscale-ui.example.org", "A", "203.0.113.10", False),
        ("headscale-ui.example.org", "AAAA", "2001:db8:10::1", False),
        ("headscale.example.org", "A", "203.0.113.10", False),
        ("headscale.example.org", "AAAA", "2001:db8:10::1", False),
    ]


def test_no_secret_of_the_stack_is_given_to_a_provider_in_clear(program):
    inputs = program()
    in_clear = revealed(list(inputs.values()))
    for secret in SECRETS.values():
        for form in (secret, json.dumps(secret)[1:-1], base64.b64encode(secret.encode()).decode()):
            assert form not in in_clear
    assert SECRET in inputs["server-server"]["userData"]
    assert SECRET in inputs["nixos-push"]["stdin"]


def test_every_connection_knows_the_host_key_beforehand(program):
    expected = asyncssh.import_private_key(SECRETS["sshHostKey"]).export_public_key().decode().split()[:2]
    for name, values in commands(program()).items():
        connection = values["connection"]
        connection = connection.get("value", connection) if SECRET in connection else connection
        assert connection["hostKey"].split()[:2] == expected, name


def test_no_command_undoes_anything_when_it_is_replaced_or_destroyed(program):
    for name, values in commands(program()).items():
        assert "delete" not in values, name


def test_answers_that_hold_keys_are_not_logged(program):
    inputs = program()
    for name in ("headscale-admin-preauth-key", "headscale-api-key"):
        assert inputs[name]["logging"] == "none"


def test_no_command_asks_sshd_to_accept_variables(program):
    for name, values in commands(program()).items():
        assert values["addPreviousOutputInEnv"] is False, name


def test_each_user_gets_a_key(program):
    inputs = program(users=["alice", "bob"])
    assert {"headscale-alice-preauth-key", "headscale-bob-preauth-key"} <= set(inputs)


def test_the_host_computes_the_same_digest_of_the_tree(tmp_path: Path):
    from components import nixos

    files = nixos.nix_files() | {"secrets/headscale.yaml": b"x: 1\n", "deployment.json": b"{}"}
    with tarfile.open(fileobj=io.BytesIO(nixos.tar(files))) as tree:
        tree.extractall(tmp_path)
    script = (nixos.REMOTE / "digest.sh").read_text().replace("/etc/nixos", str(tmp_path))
    there = subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True)
    assert there.stdout.strip() == nixos.tree_digest(files)


def test_the_pushed_tree_depends_on_contents_alone():
    from components import nixos

    assert nixos.tar({"a": b"1", "b": b"2"}) == nixos.tar({"b": b"2", "a": b"1"})
    assert nixos.tree_digest({"a": b"1"}) != nixos.tree_digest({"a": b"2"})


def test_what_the_host_confirmed_decides_whether_there_is_a_deploy():
    from components.host_facts import Unreachable
    from components.nixos import deploy_request

    def token(digest: str, recorded: str, deploys: int, *drift: str) -> str:
        facts = HostFacts(
            confirmed_digest=digest,
            confirmed_token=recorded,
            deploys_begun=deploys,
            drift=drift,
            seen_from="",
        )
        return deploy_request("d1", facts)["token"]

    assert token("d1", "why", 5) == "why"
    assert token("", "", 0) == "nothing deployed yet (after deploy 0)"
    assert token("d0", "why", 5) == "configuration changed (after deploy 5)"
    assert token("d0", "why", 6) != token("d0", "why", 5), "a second attempt must differ from the first"
    assert token("d1", "why", 5, "another system") == "another system (after deploy 5)"
    assert token("d1", "why", 5, "no nginx", "no sshd") == "no nginx; no sshd (after deploy 5)"
    assert "noon" in deploy_request("d1", Unreachable(asked_at="noon"))["token"]


def test_only_a_key_that_was_lost_is_made_again():
    from components.headscale import reason_for_key
    from components.host_facts import Unreachable

    assert reason_for_key("bob", facts_of(bob=("valid", 7))) == "serial 1"
    assert reason_for_key("bob", facts_of(bob=("expired", 7))) == "serial 1"
    assert reason_for_key("bob", facts_of(bob=("used up", 7))) == "serial 1"
    assert reason_for_key("bob", facts_of(bob=("unknown", 7))) == "serial 1"
    assert reason_for_key("bob", facts_of(bob=("revoked", 7))) == "key 7 was revoked on the server"
    assert reason_for_key("bob", facts_of(bob=("deleted", 8))) == "key 8 was deleted on the server"
    assert reason_for_key("bob", facts_of(alice=("valid", 7))) == "no key on record (after deploy 3)"
    assert "noon" in reason_for_key("bob", Unreachable(asked_at="noon"))


def test_what_became_of_keys_and_users_is_reported_with_what_to_do():
    from components.headscale import warnings
    from components.host_facts import Unreachable

    def warnings_of(*users: str, **states: tuple[str, int]) -> list[str]:
        return list(warnings(users, facts_of(**states)))

    assert warnings_of("bob", bob=("valid", 7)) == []
    for state in ("expired", "used up"):
        (warning,) = warnings_of("bob", "carol", bob=(state, 7), carol=("valid", 8))
        assert f"bob is {state}: `pulumi config set preauthKeySerial" in warning
    (warning,) = warnings_of("bob", bob=("revoked", 7))
    assert "bob was revoked on the server: `pulumi up` makes a new one" in warning
    (warning,) = warnings_of("bob", bob=("deleted with its user", 7))
    assert warning == "the user bob and its pre-auth key were deleted on the server: `pulumi up` makes both again"
    (warning,) = warnings_of("robert", bob=("valid", 7))
    assert "no longer names bob" in warning
    assert "stays, with its nodes (2)" in warning
    assert len(warnings_of("bob", "carol", bob=("unknown", 7), carol=("unknown", 8))) == 1
    assert list(warnings(["bob"], Unreachable(asked_at="noon"))) == []


def facts_of(**states: tuple[str, int]) -> HostFacts:
    """Facts of users, each with the state and the id of its key."""
    users = {user: UserFacts(key=key, reason="serial 1", state=state, nodes=2) for user, (state, key) in states.items()}
    return HostFacts(
        confirmed_digest="",
        confirmed_token="",
        deploys_begun=3,
        seen_from="",
        users=users,
    )


def test_each_user_has_a_reason_of_its_own(program):
    users = {name: {"key": 7, "reason": "serial 1", "state": "valid", "nodes": 0} for name in ("alice", "bob")}
    users["bob"]["state"] = "revoked"
    inputs = program(users=["alice", "bob"], host={"users": users})
    reasons = {
        user: json.loads(inputs[f"headscale-{user}-preauth-key"]["stdin"])["reason"] for user in ("alice", "bob")
    }
    assert reasons == {"alice": "serial 1", "bob": "key 7 was revoked on the server"}


def test_the_api_key_is_read_again_when_its_file_changes(program, sops_file, tmp_path: Path):
    one, other = (sops_file(tmp_path / name, SOPS_VALUES, str(HOST.to_public())) for name in ("one", "other"))
    asked = [program(secretsFile=str(file))["headscale-api-key"]["stdin"] for file in (one, one, other)]
    assert asked[0] == asked[1] != asked[2]


def test_another_ssh_key_asks_for_no_other_preauth_key(program):
    inputs = program()["headscale-admin-preauth-key"]
    assert inputs["triggers"] == [inputs["stdin"]]
    assert "BEGIN OPENSSH" not in json.dumps(inputs["triggers"])
