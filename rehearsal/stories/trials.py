"""NixOS refuses to switch to a system while another one runs: the system is booted once, and kept if it serves.

What refuses is an inhibitor that differs, as NixOS has them for the message bus. Not proven: GRUB, which is played.
"""

import signal

from rehearsal.operator.edits import laid_over, open_for_edits
from rehearsal.sandbox.wait import eventually
from rehearsal.stories.deploys import Deploys
from rehearsal.story import JOIN_TIMEOUT


class Trials(Deploys):
    """One server, two systems that keep each other from being switched to, and reboots between them."""

    def tell(self) -> None:
        open_for_edits(self.world.run)
        with laid_over("inhibitor-1"):
            self.up()
        with self.joined("laptop", "phone") as (self.laptop, self.phone):
            eventually(lambda: self.phone.ping(self.laptop.addresses()[0]), "phone pings laptop", JOIN_TIMEOUT)
            eventually(lambda: self.phone.path_to(self.laptop) == "direct", "a direct path", JOIN_TIMEOUT)
            self.is_kept()
            self.is_not_kept("a firewall that drops SSH", "no-ssh-port", "not confirmed: no new SSH connection")
            self.is_not_kept("a headscale that does not start", "no-relay-map", "headscale.service has ended")
            self.answer_is_lost()
        self.world.stack.destroy()

    def is_kept(self) -> None:
        with self.report.step("a system that can only be booted: `pulumi up` boots and confirms it") as line:
            with laid_over("inhibitor-2"), self.pinging() as pings:
                boots = self.world.host.boots()
                generation = self.deploys()
                assert self.world.host.boots() == boots + 1
            self.assert_booted()
            line.note = f"{generation}, {pings()}"
        with self.report.step("  it is what the server boots from then on"):
            self.world.machines.reboot(self.world.server_id)
            eventually(lambda: self.world.host.boots() == boots + 2, "the reboot", 60)
            self.assert_booted()

    def is_not_kept(self, what: str, fault: str, reason: str) -> None:
        with self.report.step(f"{what}, booted once: the server boots what ran before, `pulumi up` says why") as line:
            before, boots = self.standing(), self.world.host.boots()
            with laid_over("inhibitor-1", "other-headscale", fault), self.pinging() as pings:
                printed = self.world.stack.up(expect=1).output
                assert "rolled back" in printed and reason in printed, printed[-3000:]
                eventually(lambda: self.world.host.boots() == boots + 2, "the second reboot", 60)
                eventually(self.answers, "SSH", 30)
            self.assert_standing(before)
            self.assert_booted()
            line.note = pings()

    def answer_is_lost(self) -> None:
        with self.report.step("the engine is killed while the server boots: the next `pulumi up` confirms") as line:
            with laid_over("inhibitor-1"), self.pinging() as pings:
                boots, deploys = self.world.host.boots(), self.world.host.deploys_begun()
                with self.up_in_the_background(expect=-signal.SIGKILL):
                    eventually(lambda: self.world.stack.has_begun("nixos-confirm"), "the reboot", 120)
                    self.world.stack.kill()
                self.world.stack.up()
                assert (self.world.host.boots(), self.world.host.deploys_begun()) == (boots + 1, deploys + 1)
            line.note = pings()

    def assert_booted(self) -> None:
        booted = eventually(lambda: self.world.host.system("booted"), "the boot", 60)
        assert booted == self.world.host.boot_default()
