"""A place that is sold out can be left, and a server that serves does not change its place unawares."""

import re
import shlex

from rehearsal.stories.main import assert_untouched
from rehearsal.story import HEADSCALE, Story
from rehearsal.world import ZONE

LEFT = re.compile("`hcloud ([a-z-]+) delete ([0-9]+)` removes it")
SOLD_OUT = ("cx23", "nbg1")


class Places(Story):
    def tell(self) -> None:
        self.world.stack.set("protect", "true")
        self.left_over()
        self.told()
        self.found_out()
        self.elsewhere()
        self.moves()

    def left_over(self) -> None:
        with self.report.step(
            "what an `up` that was cut off left at Hetzner is named, with the command for each"
        ) as line:
            self.world.ask_hetzner("POST", "firewalls", {"name": "rehearsal-headscale"})
            address = {"name": "rehearsal-headscale-ipv4-nbg1", "type": "ipv4", "location": "nbg1"}
            self.world.ask_hetzner("POST", "primary_ips", address)
            output = self.world.stack.preview().output
            commands = LEFT.findall(output)
            line.note = "; ".join(sorted({f"hcloud {kind} delete {id}" for kind, id in commands}))
            assert {kind for kind, _ in commands} == {"firewall", "primary-ip"}, commands
            assert "Cloudflare has a record" not in output, output
        with self.report.step("  after them the preview names none"):
            for kind, id in set(commands):
                assert self.world.ask_hetzner("DELETE", f"{kind.replace('-', '_')}s/{id}") == {}
            assert LEFT.findall(self.world.stack.preview().output) == []
        self.left_record()

    def left_record(self) -> None:
        with self.report.step("a record at headscale's name that is not the stack's is named, with how to delete it"):
            self.world.cloudflare.add("example.org", name=HEADSCALE, type="A", content="192.0.2.99")
            output = self.world.stack.preview().output
            (record,) = self.world.cloudflare.records
            assert f"record {HEADSCALE} A 192.0.2.99 (id {record})" in output, output
            assert f"/zones/{ZONE['example.org']}/dns_records/{record}` deletes it" in output, output
            self.world.cloudflare.remove(record)
            assert "Cloudflare has a record" not in self.world.stack.preview().output

    def told(self) -> None:
        with self.report.step("sold out, and Hetzner's list says so: the preview names places and types that are not"):
            self.world.hetzner.project.sold_out[SOLD_OUT] = True
            output = self.world.stack.preview(expect=1).output
            assert "cx23 is sold out in nbg1 at Hetzner" in output, output
            assert re.search(r"another type \(.*cx33.*\)", output), output
            assert re.search(r"another place \(fsn1, hel1\)", output), output
            self.world.stack.up(expect=1)
            assert self.world.leftovers() == []

    def found_out(self) -> None:
        with self.report.step(
            "sold out only when the server is ordered: `pulumi up` fails with Hetzner's words"
        ) as line:
            self.world.hetzner.project.sold_out[SOLD_OUT] = False
            output = self.world.stack.up(expect=1).output
            line.note = "resource_unavailable"
            assert line.note in output, output
            assert self.world.hetzner.project.primary_ips

    def elsewhere(self) -> None:
        with self.report.step("another location: the next `pulumi up` goes through, with protection on") as line:
            self.world.stack.set("location", "hel1")
            changed = self.world.stack.up().changed()
            unchanged = {"server-ssh-key", "server-firewall"} - set(changed)
            line.note = f"kept: {', '.join(sorted(unchanged))}"
            assert len(unchanged) == 2, changed
            assert_untouched(self.world.stack.preview("--expect-no-changes"))
        with self.report.step("  and a protected address cannot be taken from the server") as line:
            self.world.stack.set("location", "nbg1")
            line.note = "the preview refuses"
            self.refusal = self.world.stack.preview(expect=1).output
            assert "Hetzner does not move servers" in self.refusal, self.refusal

    def moves(self) -> None:
        with self.report.step("the server's place changes after the commands that the refusal gives") as line:
            commands = re.search(r"To move all the same: `(.*?)`, then `(.*?)`", self.refusal)
            assert commands, self.refusal
            line.note = " && ".join(commands.groups())
            for command in line.note.split(" && "):
                self.obey(shlex.split(command))
            assert {server.location["name"] for server in self.world.hetzner.project.servers.values()} == {"nbg1"}
        with self.report.step("  after which the preview is clean"):
            assert_untouched(self.world.stack.preview("--expect-no-changes"))

    def obey(self, command: list[str]) -> None:
        match command:
            case ["pulumi", "config", "set", key, value]:
                self.world.stack.set(key.removeprefix("headscale:"), value)
            case ["pulumi", "up"]:
                # There is cx23 again.
                self.world.hetzner.project.sold_out.clear()
                self.world.stack.up()
            case _:
                raise AssertionError(f"not a command that an operator was told: {command}")
