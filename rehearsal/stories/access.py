"""An operator who moves, or would shut himself out, keeps the way in; what is lost or off is told with its repair."""

import shlex
import time
from copy import deepcopy

from rehearsal.sandbox.processes import check
from rehearsal.sandbox.wait import eventually
from rehearsal.stories.main import assert_untouched
from rehearsal.story import JOIN_TIMEOUT, Story

FORMER, NEW = "198.51.100.10", "198.51.100.77"
ELSEWHERE = "203.0.113.64/26"


class Access(Story):
    def tell(self) -> None:
        self.up()
        self.shut_out()
        self.moves()
        self.lost_file()
        self.another_machine()
        self.switched_off()

    def shut_out(self) -> None:
        with self.report.step("adminNetworks without the operator is refused by the preview"):
            before = deepcopy(self.world.hetzner.project.firewalls)
            self.world.stack.set("adminNetworks", ELSEWHERE, as_list=True)
            refused = self.world.stack.preview(expect=1).output
            assert f"adminNetworks leaves out {FORMER}" in refused, refused
            assert "Traceback" not in refused and "unhandled" not in refused, refused
            assert self.world.hetzner.project.firewalls == before
        with self.report.step("  unless it is meant"):
            self.world.stack.set("adminNetworksExcludeMe", "true")
            assert self.world.stack.preview().changed() != {}
            self.world.stack.unset("adminNetworksExcludeMe")

    def moves(self) -> None:
        with self.report.step("the operator has another address: adminNetworks with it, and `pulumi up` goes through"):
            move(NEW)
            assert "could not be asked over SSH" in self.world.stack.preview().output, (
                "the new address was let in already"
            )
            self.world.stack.set("adminNetworks", f"{NEW}/32", as_list=True)
            self.world.stack.up()
            assert_untouched(self.world.stack.preview("--expect-no-changes"))

    def lost_file(self) -> None:
        file = self.world.stack.directory / "secrets.yaml"
        with self.report.step("the SOPS file is lost: the preview tells how to fetch the server's copy") as line:
            before = file.read_text()
            file.unlink()
            output = self.world.stack.preview(expect=1).output
            line.note = "cat /etc/nixos/secrets/headscale.yaml"
            assert f"{line.note} >{file}" in output, output
        with self.report.step("  and with it nothing has changed"):
            file.write_text(self.on_the_server(shlex.split(line.note)))
            assert file.read_text() == before
            assert_untouched(self.world.stack.preview("--expect-no-changes"))

    def another_machine(self) -> None:
        with self.report.step("a server type of another architecture is refused by the preview"):
            self.world.stack.set("serverType", "cax11")
            refused = self.world.stack.preview(expect=1).output
            assert "serverType cax11 is arm, and rehearsal-headscale is x86" in refused, refused
            self.world.stack.unset("serverType")

    def switched_off(self) -> None:
        with self.report.step(
            "a server that is off is said to be off, at once, with the command that starts it"
        ) as line:
            self.world.switch_server(on=False)
            begin = time.monotonic()
            for command in (self.world.stack.preview, self.world.stack.up):
                output = command(expect=1).output
                assert "is off: `hcloud server poweron rehearsal-headscale` starts it" in output, output
            line.note = f"preview and up together in {time.monotonic() - begin:.0f} s"
        with self.report.step("  and with it on again the preview is clean"):
            self.world.switch_server(on=True)
            eventually(lambda: self.on_the_server(["true"]) == "", "the server to answer", JOIN_TIMEOUT)
            assert_untouched(self.world.stack.preview("--expect-no-changes"))

    def on_the_server(self, command: list[str]) -> str:
        """The output of a command over SSH, with the deploy key."""
        self.log_in()
        login = self.world.run.directory("login")
        options = ("-F", "none", "-i", f"{login}/key", "-o", f"UserKnownHostsFile={login}/known")
        return check(["ssh", *options, f"root@{self.outputs['serverIpv4']}", *command])


def move(address: str) -> None:
    """Give the operator another address of the same network, as a provider does overnight."""
    check(["ip", "-n", "inet", "route", "add", f"{address}/32", "dev", "operator"])
    check(["ip", "address", "add", f"{address}/32", "dev", "eth0"])
    check(["ip", "route", "change", "default", "via", "198.51.100.1", "dev", "eth0", "onlink", "src", address])
