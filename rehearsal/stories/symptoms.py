"""Help by symptom: each fault is brought about, and the page's own commands show it and repair it."""

import json
import re
import subprocess
from collections.abc import Mapping, Sequence

from rehearsal.operator.stack import NAME, PROGRAM
from rehearsal.people.devices import Device
from rehearsal.sandbox.wait import eventually
from rehearsal.stories.interruptions import KILLED
from rehearsal.stories.main import assert_untouched
from rehearsal.story import HEADSCALE, JOIN_TIMEOUT, Story

PAGE = (PROGRAM / "docs/symptoms.md").read_text()
STRANGER = "203.0.113.77"
EMPTY_POLICY = (
    """echo '{"acls": []}' >/tmp/p && mv -T /tmp/p /etc/headscale/policy.hujson && systemctl reload headscale"""
)
EXPIRE = "headscale apikeys list --output json | jq -r .[0].prefix | xargs headscale apikeys expire --prefix"


def commands(page: str) -> Mapping[str, Sequence[tuple[str, str]]]:
    """By heading: where each block of commands is typed, and the block."""
    parts = re.split(r"^## (.*)$", page, flags=re.MULTILINE)[1:]
    blocks = re.compile(r"^(Here|On the server):\n\n```sh\n(.*?)```", re.MULTILINE | re.DOTALL)
    return {heading: blocks.findall(text) for heading, text in zip(parts[::2], parts[1::2], strict=True)}


class Symptoms(Story):
    def tell(self) -> None:
        self.commands = {heading: iter(blocks) for heading, blocks in commands(PAGE).items()}
        self.up()
        self.world.stack.lay_over_settings()
        with self.joined("laptop", "phone") as (self.laptop, self.phone):
            self.deleted()
            self.spent()
            self.apart()
        self.web_interface()
        self.certificate()
        self.banned()
        self.full()
        self.interrupted()
        self.lost_state()
        with self.report.step("every command of the page was typed"):
            assert {heading for heading, blocks in self.commands.items() if [*blocks]} == set()

    def type(self, heading: str, status: int = 0) -> str:
        """The output of the next block of commands below this heading."""
        place, block = next(self.commands[heading])
        if place == "Here":
            process = subprocess.run(
                ["bash", "-ec", block],
                cwd=self.world.stack.program,
                env=self.world.stack.environment | {"PULUMI_STACK": NAME, "HOME": str(self.world.stack.directory)},
                capture_output=True,
                text=True,
            )
        else:
            process = self.world.host.attempt(["bash", "-ec", block])
        assert process.returncode == status, f"{block}{process.stdout}{process.stderr}"
        return process.stdout

    def deleted(self) -> None:
        heading = "A device says Running and stays offline"
        with self.report.step(f"{heading}: the list shows that its node is gone"):
            (node,) = (node for node in self.world.headscale.nodes() if node["given_name"] == "laptop")
            self.world.host.run("headscale", "nodes", "delete", "--force", "--identifier", str(node["id"]))
            assert "laptop" not in self.type(heading)
        with self.report.step("  and joinCommand alone brings it back"):
            self.laptop.join(self.type(heading))
            self.reaches(self.laptop, self.phone)

    def spent(self) -> None:
        heading = "A device does not register: the key is refused"
        with self.report.step(f"{heading}: new keys join it"), self.world.device("tablet") as tablet:
            former = self.outputs["joinCommand"]
            self.world.headscale.expire_key(str(json.loads(self.record())["key"]))
            assert tablet.run(["sh", "-c", f"{former} --timeout 5s"]).returncode != 0
            tablet.join(self.type(heading).splitlines()[-1])

    def record(self) -> str:
        return self.world.host.read("/var/lib/headscale-bootstrap/admin")

    def apart(self) -> None:
        heading = "Devices are online and do not reach each other"
        with self.report.step(f"{heading}: the preview names the policy") as line:
            self.world.host.run("sh", "-c", EMPTY_POLICY)
            line.note = "/etc/headscale/policy.hujson is not the policy that was deployed"
            assert line.note in self.type(heading, status=7)
        with self.report.step("  and `pulumi up` puts the deployed one back"):
            self.type(heading)
            self.reaches(self.laptop, self.phone)

    def reaches(self, one: Device, other: Device) -> None:
        eventually(lambda: one.ping(other.addresses()[0]), f"{one.name} pings {other.name}", JOIN_TIMEOUT)

    def web_interface(self) -> None:
        heading = "The web interface does not connect"
        with self.report.step(f"{heading}: the list of API keys shows it"):
            self.world.host.run("sh", "-c", EXPIRE)
            assert not self.api_takes_the_key()
            assert "headscale-api-key.service" in self.type(heading)
        with self.report.step("  and the unit registers the key again"):
            self.type(heading)
            eventually(self.api_takes_the_key, "the API to take the key", JOIN_TIMEOUT)

    def api_takes_the_key(self) -> bool:
        return self.get(f"{self.outputs['uiUrl'].removesuffix('/web/')}/api/v1/user", self.outputs["apiKey"])[0] == 200

    def certificate(self) -> None:
        heading = "A certificate is not issued, or not renewed"
        assert HEADSCALE in PAGE
        with self.report.step(f"{heading}: the order's own words"):
            assert HEADSCALE in self.type(heading)
        with self.report.step("  and ordering again ends well"):
            self.type(heading)

    def banned(self) -> None:
        heading = "Somebody is banned"
        with self.report.step(f"{heading}: the list has the address"):
            self.world.host.run("fail2ban-client", "set", "sshd", "banip", STRANGER)
            assert STRANGER in self.type(heading)
        with self.report.step("  and is empty of it afterwards"):
            self.type(heading)
            assert STRANGER not in self.world.host.run("fail2ban-client", "banned")

    def full(self) -> None:
        heading = "The disk is full"
        with self.report.step(f"{heading}: the parts that grow, with their sizes") as line:
            usage = self.type(heading)
            line.note = ", ".join(" ".join(text.split()) for text in usage.splitlines()[:2])
            assert "/nix" in line.note and "/var" in line.note, usage
        with self.report.step("  and what can go is collected, with the running system kept"):
            self.type(heading)
            assert_untouched(self.world.stack.preview("--expect-no-changes"))

    def interrupted(self) -> None:
        heading = "An `up` was interrupted"
        with self.report.step(f"{heading}, by kill -9: its lock is released, and the next one ends well"):
            stack = self.world.stack
            stack.set("extraRecords", "grafana.ts.example.org 100.64.0.9", as_list=True)
            with self.up_in_the_background(expect=KILLED):
                eventually(lambda: stack.has_begun("nixos-push"), "the push to begin", JOIN_TIMEOUT)
                stack.end_at_once()
            self.type(heading)
            assert_untouched(stack.preview("--expect-no-changes"))

    def lost_state(self) -> None:
        heading = "The state is lost"
        with self.report.step(f"{heading}: a copy of it, put back, is the stack again"):
            self.type(heading)
            self.type(heading)
            assert_untouched(self.world.stack.preview("--expect-no-changes"))
