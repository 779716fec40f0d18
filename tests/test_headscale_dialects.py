"""The scripts on the host understand headscale 0.29 and 0.30, whose JSON differs, by answers recorded of both.

Those of 0.30 are its main branch's of July 2026. They are given by a program that writes down what else it is asked.
"""

import json
import shlex
from datetime import datetime
from typing import Any

import pytest
from server_image import HERE, ServerImage

REMOTE = HERE.parent / "components/remote"
STATE = "/var/lib/headscale-bootstrap"
RECORDED = {path.stem: json.loads(path.read_text()) for path in sorted((HERE / "headscale_answers").glob("*.json"))}
ASKED = "/answers/asked"
HEADSCALE = f"""#!/bin/sh
case "$1 $2" in
"users list") cat /answers/users.json ;;
"nodes list") cat /answers/nodes.json ;;
"preauthkeys list") cat /answers/keys.json ;;
"preauthkeys create") cat /answers/created.json && echo "$*" >>{ASKED} ;;
*) echo "$*" >>{ASKED} ;;
esac
"""


def epoch(time: Any) -> int:
    return int(datetime.fromisoformat(time[:19] + "+00:00").timestamp()) if isinstance(time, str) else time["seconds"]


class ImitatedHost:
    def __init__(self, server: ServerImage, answers: dict[str, Any]):
        self.server, self.answers = server, answers
        self.expires = epoch(answers["created"]["expiration"])
        server.output("rm", "-rf", STATE, "/answers")
        for name, answer in answers.items():
            server.put(f"/answers/{name}.json", json.dumps(answer))
        server.put(ASKED, "")
        server.put("/recorded/headscale", HEADSCALE)
        server.put("/recorded/date", f"#!/bin/sh\necho {self.expires - 60}\n")
        server.output("chmod", "0755", "/recorded/headscale", "/recorded/date")

    def run(self, script: str, request: Any = None) -> str:
        self.server.put(f"/remote/{script}", (REMOTE / script).read_text())
        quoted = shlex.quote(json.dumps(request))
        return self.server.output("sh", "-c", f"printf %s {quoted} | PATH=/recorded:$PATH sh /remote/{script}")

    def asked(self) -> list[str]:
        return self.server.read(ASKED).splitlines()

    def record(self, user: str, **fields: Any) -> None:
        self.server.put(f"{STATE}/{user}", json.dumps({"reason": "new"} | fields))

    def state(self, **fields: Any) -> str:
        """The result for a record of these fields."""
        self.record("admin", **{"key": 1, "expires": self.expires} | fields)
        facts = json.loads(self.run("user-facts.sh"))
        assert facts["admin"]["nodes"] == 1
        return facts["admin"]["state"]


@pytest.fixture(params=RECORDED)
def host(server: ServerImage, request: pytest.FixtureRequest) -> ImitatedHost:
    return ImitatedHost(server, RECORDED[request.param])


def test_both_dialects_are_here():
    assert [version[:4] for version in RECORDED] == ["0.29", "0.30"]


def test_a_key_is_made_for_the_user_and_recorded(host: ImitatedHost):
    expected = {"expiration": "1h", "reusable": True, "ephemeral": False, "tags": [], "reason": "new"}
    key = json.loads(host.run("preauth-key.sh", {"user": "admin"} | expected))
    assert key["key"] == host.answers["created"]["key"]
    assert epoch(key["expiresAt"]) == host.expires
    assert [line[:29] for line in host.asked()] == ["preauthkeys create --user 1 -"]
    assert json.loads(host.server.read(f"{STATE}/admin")) == {"key": 1, "expires": host.expires, "reason": "new"}


def test_what_became_of_a_key_is_reported(host: ImitatedHost):
    assert host.state() == "valid"
    assert host.state(key=3) == "deleted"
    host.server.put("/answers/keys.json", json.dumps(host.answers["revoked"]))
    assert host.state() == "revoked"
    host.server.put("/recorded/date", f"#!/bin/sh\necho {host.expires + 60}\n")
    assert host.state(key=2, expires=host.expires) == "expired"


def test_the_key_of_a_former_user_expires(host: ImitatedHost):
    host.record("other", key=2, expires=host.expires)
    host.run("former-users.sh", {"users": ["admin"]})
    assert host.asked() == ["preauthkeys expire --id 2"]


@pytest.mark.parametrize("whom", ["grpc", "server"])
def test_a_build_checks_the_policy_without_a_server(server: ServerImage, tree: str, whom: str):
    server.put("/checked-policy.nix", (HERE / "checked_policy.nix").read_text())
    flag = f"--bypass-{whom}-and-access-database-directly"
    arguments = ["--argstr", "flag", flag, "--arg", "tree", tree]
    built = server.output(
        "nix", "build", "--impure", "--no-link", "--print-out-paths", "--file", "/checked-policy.nix", *arguments
    )
    assert server.read(built.strip()) == server.read(f"{tree}/policy.hujson")
