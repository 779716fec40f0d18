"""The policy is headscale's to judge, by its users and nodes: before a deploy, and never to the harm of one."""

import json
from typing import Any

from rehearsal.stories.main import assert_untouched
from rehearsal.story import DEPLOY, Story

EVERYBODY = {"action": "accept", "src": ["*"], "dst": ["*:*"]}
OWNERS = {"tag:srv": ["admin@"]}


class Policies(Story):
    def tell(self) -> None:
        with self.report.step("before there is a server, the build refuses: `pulumi up` ends with headscale's words"):
            self.set_policy(acls=[EVERYBODY | {"src": ["100.64.0.1"], "dst": ["autogroup:self:*"]}])
            output = self.world.stack.up(expect=1).output
            assert "deploy: the configuration could not be built: Error: parsing policy file" in output, output[-3000:]
            assert "autogroup:self can only be used with users" in output, output[-3000:]
        self.set_policy(acls=[EVERYBODY], tagOwners=OWNERS, tests=[{"src": "admin@", "accept": ["tag:srv:22"]}])
        self.up()
        self.not_yet()
        with self.joined("laptop", "phone") as (self.laptop, self.phone):
            self.wrong()
            self.right()

    def not_yet(self) -> None:
        with self.report.step("a test of users without nodes keeps no deploy up: a preview says that it does not run"):
            output = self.world.stack.preview("--expect-no-changes").output
            assert "names what does not exist yet, so its tests do not run" in output, output
            assert '"tests"' not in self.world.host.read("/etc/headscale/policy.hujson")

    def wrong(self) -> None:
        with self.report.step(
            "a test that fails: the preview refuses, with headscale's words, and nothing is deployed"
        ):
            deploys = self.world.host.deploys_begun()
            address = self.laptop.addresses()[0]
            self.set_policy(acls=[EVERYBODY], tests=[{"src": "admin@", "deny": [f"{address}:22"]}])
            for command in (self.world.stack.preview, self.world.stack.up):
                output = command(expect=1).output
                assert "headscale on the server refuses it" in output and f"{address}:22" in output, output
            assert self.world.host.deploys_begun() == deploys

    def right(self) -> None:
        with self.report.step("a test that holds: deployed, without a connection lost, and nothing is said") as line:
            tests = [{"src": "admin@", "accept": [f"{self.laptop.addresses()[0]}:22"]}]
            self.set_policy(acls=[EVERYBODY], tests=tests)
            with self.pinging() as pings:
                assert self.world.stack.up().changed() == dict.fromkeys(DEPLOY, "update")
            line.note = pings()
            outcome = self.world.stack.preview("--expect-no-changes")
            assert_untouched(outcome)
            assert "policyFile" not in outcome.output, outcome.output

    def set_policy(self, **sections: Any) -> None:
        file = self.world.run.path / "policy.hujson"
        file.write_text(json.dumps(sections, indent=2) + "\n")
        self.world.stack.set("policyFile", str(file))
