"""The scripts that make users and pre-auth keys, and say what became of them, with the real headscale."""

import json
import re
import secrets
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
from server_image import HERE, ServerImage, lay_derp_map, sample_system, sample_tree, server_image

REMOTE = HERE.parent / "components/remote"
LIST_KEYS = "headscale preauthkeys list --output json"
STATE = "/var/lib/headscale-bootstrap"
Walk = Callable[..., list["Step"]]


@dataclass(frozen=True)
class Step:
    """The output of a command on the server, and the facts after it."""

    status: int
    printed: str
    facts: dict[str, dict[str, Any]]

    def json(self) -> Any:
        assert self.status == 0, self.printed
        return json.loads(self.printed)

    def states(self) -> dict[str, str]:
        return {user: facts["state"] for user, facts in self.facts.items()}


@pytest.fixture
def walk(server: ServerImage) -> Walk:
    """Runs commands one after the other on a server where headscale serves with an empty database."""
    prepare(server)

    def run(*commands: str) -> list[Step]:
        printed = server.output("bash", "/users_walk.sh", stdin="".join(f"{command}\n" for command in commands))
        steps = [Step(**json.loads(line)) for line in printed.splitlines()]
        assert len(steps) == len(commands)
        return steps

    return run


def prepare(server: ServerImage) -> None:
    home = f"/var/lib/headscale-{secrets.token_hex(4)}"
    server.output("rm", "-rf", STATE)
    server.output("mkdir", "-p", home, "/etc/headscale")
    server.output(
        "cp", "--remove-destination", f"{sample_system()}/etc/headscale/policy.hujson", "/etc/headscale/policy.hujson"
    )
    config = settings() | {"noise": {"private_key_path": f"{home}/noise.key"}}
    database = {"type": "sqlite", "sqlite": {"path": f"{home}/db.sqlite"}}
    server.put("/etc/headscale/config.yaml", json.dumps(config | {"database": database}))
    lay_derp_map()
    server.put("/users_walk.sh", (HERE / "users_walk.sh").read_text())
    for script in REMOTE.glob("*.sh"):
        server.put(f"/remote/{script.name}", script.read_text())


@cache
def settings() -> dict[str, Any]:
    return server_image().evaluate(sample_tree(), "services.headscale.settings")


def make(user: str, **changes: Any) -> str:
    request = {"user": user, "expiration": "1h", "reusable": True, "ephemeral": False, "tags": [], "reason": "new"}
    return by_stdin("preauth-key.sh", request | changes)


def by_stdin(script: str, request: dict[str, Any]) -> str:
    return f"printf %s {shlex.quote(json.dumps(request))} | sh /remote/{script}"


def test_what_became_of_a_key_is_reported_in_a_word(walk: Walk):
    steps = walk(
        make("alice"),
        make("bob"),
        make("carol", expiration="1s"),
        make("dave", reusable=False),
        "headscale preauthkeys expire --id 1",
        "headscale preauthkeys delete --id 2",
        "timeout 10 sh -c 'until sh /remote/user-facts.sh | jq .carol | grep expired; do sleep 0.1; done'",
        # A device would have to join.
        "sqlite3 $(jq -r .database.sqlite.path /etc/headscale/config.yaml) 'update pre_auth_keys set used = 1'",
        "kill $HEADSCALE; tail --pid $HEADSCALE -f /dev/null",
    )
    assert [step.status for step in steps] == [0] * len(steps), steps
    assert steps[0].states() == {"alice": "valid"}
    assert steps[5].states() | {"carol": ""} == {"alice": "revoked", "bob": "deleted", "carol": "", "dave": "valid"}
    assert steps[7].states() == {"alice": "revoked", "bob": "deleted", "carol": "expired", "dave": "used up"}
    assert set(steps[8].states().values()) == {"unknown"}
    assert steps[8].facts["alice"]["reason"] == "new"


def test_a_new_key_expires_the_former_one_and_no_other(walk: Walk):
    by_hand = "headscale preauthkeys create --user 1 --expiration 1h --output json"
    steps = walk(make("alice"), make("bob"), by_hand, make("alice", reason="another serial"), LIST_KEYS)
    assert steps[0].json()["key"] != steps[3].json()["key"]
    assert steps[3].states() == {"alice": "valid", "bob": "valid"}
    assert steps[3].facts["alice"]["reason"] == "another serial"
    assert ended(steps[4].json(), steps[0].json()["key"])
    assert not any(ended(steps[4].json(), steps[first].json()["key"]) for first in (1, 2, 3))


def ended(keys: list[dict[str, Any]], secret: str) -> bool:
    """True where the key of this secret ends sooner than within a minute."""
    (key,) = (key for key in keys if key["key"] == f"{secret[:23]}-***")
    return key["expiration"]["seconds"] < key["created_at"]["seconds"] + 60


def test_after_a_run_that_was_cut_off_the_next_one_leaves_one_key_that_is_known(walk: Walk):
    cut_off = f"mkdir {STATE}/.alice; {make('alice')}"
    steps = walk(make("alice"), cut_off, f"rmdir {STATE}/.alice; {make('alice')}", LIST_KEYS)
    assert steps[1].status != 0
    assert steps[1].states() == {"alice": "revoked"}
    assert steps[2].states() == {"alice": "valid"}
    assert ended(steps[3].json(), steps[0].json()["key"])
    assert not ended(steps[3].json(), steps[2].json()["key"])


def test_a_key_is_made_as_wanted(walk: Walk):
    expected = {"expiration": "2h", "reusable": False, "ephemeral": True, "tags": ["tag:web", "tag:db"]}
    first, listed = walk(make("alice", **expected), LIST_KEYS)
    (key,) = listed.json()
    assert (key.get("reusable", False), key["ephemeral"], key["acl_tags"]) == (False, True, ["tag:db", "tag:web"])
    assert key["expiration"]["seconds"] - key["created_at"]["seconds"] in (7199, 7200)
    assert key["user"]["name"] == "alice"
    assert first.json()["expiresAt"].endswith("Z")


def test_users_are_distinguished_by_their_whole_names(walk: Walk):
    steps = walk(make("alice"), make("al"), make("alice"), "headscale users list --output json")
    assert [user["name"] for user in steps[3].json()] == ["alice", "al"]


def test_a_user_destroyed_or_renamed_on_the_server_is_made_again(walk: Walk):
    destroyed = "headscale users destroy --force --name alice"
    renamed = "headscale users rename --identifier 2 --new-name robert"
    steps = walk(make("alice"), make("bob"), destroyed, renamed, make("alice"), make("bob"))
    assert steps[3].states() == {"alice": "deleted with its user", "bob": "deleted with its user"}
    assert steps[5].states() == {"alice": "valid", "bob": "valid"}


def test_the_key_of_a_user_who_is_not_named_any_more_expires_and_the_user_stays(walk: Walk):
    retire = by_stdin("former-users.sh", {"users": ["alice"]})
    steps = walk(make("alice"), make("ali"), retire, retire, LIST_KEYS, "headscale users list --output json")
    assert steps[2].printed.startswith("ali is no longer a user of this stack")
    assert steps[3].printed == ""
    assert steps[3].states() == {"alice": "valid"}
    assert ended(steps[4].json(), steps[1].json()["key"])
    assert [user["name"] for user in steps[5].json()] == ["alice", "ali"]


def test_before_the_first_user_there_is_nothing_to_tell(walk: Walk):
    (step,) = walk(by_stdin("former-users.sh", {"users": ["alice"]}))
    assert (step.status, step.facts) == (0, {})


def test_only_root_reads_what_is_recorded(walk: Walk):
    steps = walk(make("alice"), f"stat --format %a {STATE} {STATE}/alice", f"cat {STATE}/*")
    assert steps[1].printed.split() == ["700", "600"]
    assert steps[0].json()["key"][-40:] not in steps[2].printed


@pytest.mark.parametrize(
    ("key", "database", "message"),
    [
        ("hskey-api-too-short", "own", "is not of the form hskey-api-"),
        (f"hskey-api-{'p' * 12}-{'s' * 64}", "copy", "headscale answers 401 to the key that was just registered"),
    ],
)
def test_an_api_key_that_headscale_does_not_take_fails_its_unit(
    server: ServerImage, system: str, walk: Walk, key: str, database: str, message: str
):
    unit = server.unit(system, "headscale-api-key.service")
    (register,) = re.findall(r"^ExecStart=(\S+)", unit, re.MULTILINE)
    environment = (
        f"CREDENTIALS_DIRECTORY=/key STATE_DIRECTORY=/key API=http://127.0.0.1:8085 DATABASE=/{database}.sqlite"
    )
    (step,) = walk(
        "sqlite3 $(jq -r .database.sqlite.path /etc/headscale/config.yaml) '.backup /copy.sqlite'; "
        f"mkdir -p /key; echo {key} >/key/api-key; {environment} {register}"
    )
    assert step.status != 0
    assert message in step.printed


OPEN = '{"tagOwners": {"tag:srv": ["admin@"]}, "acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}], '
# By remote/judge-policy.sh's status: 0 taken, 1 refused, 2 names what is not there yet.
JUDGED = {
    "one that is right": (OPEN + '"tests": []}', 0, ""),
    "a group that is not defined": (
        '{"acls": [{"action": "accept", "src": ["group:x"], "dst": ["*:*"]}]}',
        1,
        "group:x",
    ),
    "a comma too many": ('{"acls": [,]}', 1, "invalid character"),
    "a test of a user without nodes": (OPEN + '"tests": [{"src": "admin@", "accept": ["tag:srv:22"]}]}', 2, "admin@"),
    "a test of a user who is not there": (OPEN + '"tests": [{"src": "eve@", "accept": ["tag:srv:22"]}]}', 2, "eve@"),
    "a test that fails": (OPEN + '"tests": [{"src": "100.64.0.1", "deny": ["100.64.0.2:22"]}]}', 1, "100.64.0.2:22"),
    "one test that fails, another not yet": (
        OPEN
        + '"tests": [{"src": "eve@", "accept": ["tag:srv:22"]}, {"src": "100.64.0.1", "deny": ["100.64.0.2:22"]}]}',
        1,
        "100.64.0.2:22",
    ),
    "a test of ssh": (OPEN + '"sshTests": [{"src": "admin@", "dst": ["tag:srv"], "accept": ["root"]}]}', 2, "admin@"),
    "an empty one": ("", 0, ""),
}


def test_headscale_judges_a_policy_by_the_users_of_the_day_and_writes_nothing(walk: Walk):
    judge = 'sh -c "$(cat /remote/judge-policy.sh)" judge-policy /dev/stdin'
    list_users = "headscale users list --output json | jq -c 'map(.name)'"
    commands = [f"printf %s {shlex.quote(policy)} | {judge}" for policy, _, _ in JUDGED.values()]
    first, *steps, users, _, silent = walk(
        make("admin"), *commands, list_users, "kill $HEADSCALE; tail --pid $HEADSCALE -f /dev/null", commands[0]
    )
    assert first.status == 0
    for (what, (_, status, words)), step in zip(JUDGED.items(), steps, strict=True):
        assert (step.status, words in step.printed) == (status, True), f"{what}: {step}"
    assert users.json() == ["admin"]
    assert silent.status == 3, "without an answer there is a verdict"


def test_a_person_who_came_by_a_login_of_the_same_name_is_not_the_stacks_user(walk: Walk):
    """Of two users of one name, the one with a provider signed in and chose the name."""
    database = "$(jq -r .database.sqlite.path /etc/headscale/config.yaml)"
    person = (
        "insert into users (id, name, provider, provider_identifier) "
        "values (1, 'carol', 'oidc', 'https://login.example.org/7')"
    )
    user_of_keys = "headscale preauthkeys list --output json | jq '.[0].user.id'"
    _, first, user = walk(f'sqlite3 {database} "{person}"', make("carol"), user_of_keys)
    assert first.states() == {"carol": "valid"}
    assert user.json() == 2
