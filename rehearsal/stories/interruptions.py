"""However a step is cut off, the next `pulumi up` ends well: answers are lost, the power fails, the engine is killed.

Not cut off here: what is being created at Hetzner and Cloudflare.
"""

import signal
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from rehearsal.sandbox.wait import eventually
from rehearsal.stories.main import assert_untouched
from rehearsal.story import JOIN_TIMEOUT, Story

CHANGE = ("nixos-push", "nixos-deploy", "nixos-confirm")
FIRST = ("nixos-convert", "nixos-booted", "nixos-keys", *CHANGE)
AT_ONCE = ("headscale-certificates", "headscale-former-users", "headscale-api-key", "headscale-admin-preauth-key")
KILLED = -signal.SIGKILL
# /bin, /dev and /etc have been moved, and the rest of Debian has not.
AMID_THE_MOVES = 6
# A deploy that nobody confirms is rolled back after a minute.
ROLLED_BACK = 120.0


class Interruptions(Story):
    """One server from its first `pulumi up` to its end, and hardly a step that is not cut off."""

    def tell(self) -> None:
        self.first_up()
        with self.joined("laptop", "phone") as (self.laptop, self.phone):
            eventually(lambda: self.phone.ping(self.laptop.addresses()[0]), "phone pings laptop", JOIN_TIMEOUT)
            with self.pinging() as pings:
                self.change()
                self.rotation()
            with self.report.step("all the while the devices' pings went on") as line:
                line.note = pings()
        self.destroy()

    # The first `pulumi up`

    def first_up(self) -> None:
        with self.report.step("the power fails while the server becomes NixOS"):
            self.power_fails_while(lambda: self.state_of("become-nixos.service") == "activating")
        self.world.machines[self.world.server_id].power_fails_at = AMID_THE_MOVES
        for name in FIRST:
            self.lost_and_killed(name, roll_back=name == "nixos-deploy")
        with self.report.step("the power failed while stage 1 moved Debian away, and the next boot did the rest"):
            console = self.world.machines.console(self.world.server_id)
            assert "finishing the lustration that was cut off" in console, console[-2000:]
        self.lost_and_killed(*AT_ONCE)
        self.ends_well()
        self.outputs = self.world.stack.outputs()

    def lost_and_killed(self, *names: str, roll_back: bool = False) -> None:
        with self.report.step(f"{', '.join(names)}: the answer is lost, then the engine is killed"):
            with self.world.stack.lost_answers(*names):
                self.world.stack.up(expect=1)
            if roll_back:
                # Nobody confirms it, so that the host runs again what it ran before.
                eventually(self.reason, "the roll-back", ROLLED_BACK)
            self.killed_at(names[-1])

    def killed_at(self, name: str) -> None:
        with self.up_in_the_background(expect=KILLED):
            eventually(lambda: self.world.stack.has_begun(name), f"{name} to begin", 120)
            self.world.stack.kill()

    def power_fails_while(self, moment: Callable[[], bool | str]) -> None:
        """The operator sees nothing any more, and interrupts."""
        with self.up_in_the_background(expect=KILLED):
            eventually(moment, "the moment at which the power fails", 120)
            self.world.machines.power_off(self.world.server_id)
            self.world.machines.power_on(self.world.server_id)
            self.world.stack.kill()

    def ends_well(self) -> None:
        with self.report.step("the next `pulumi up` ends well: one user, one key, a clean preview") as line:
            line.note = f"{len(self.world.stack.up().changed())} resources changed"
            users = self.world.headscale.users()
            assert [user["name"] for user in users] == ["admin"], users
            keys = self.world.headscale.preauth_keys()
            valid = [key["id"] for key in keys if key["expiration"]["seconds"] > datetime.now(UTC).timestamp()]
            assert len(valid) == 1, keys
            assert_untouched(self.world.stack.preview("--expect-no-changes"))

    def reason(self) -> str:
        return "" if self.world.host.deploying() else self.world.host.rollback_reason()

    def state_of(self, unit: str) -> str:
        return self.world.host.attempt(["systemctl", "is-active", unit]).stdout.strip()

    # A change

    def change(self) -> None:
        self.world.stack.set("extraRecords", "grafana.ts.example.org 100.64.0.9", as_list=True)
        for name in CHANGE:
            self.lost_and_killed(name)
        self.ends_well()
        for state, what in (("activating", "builds or activates"), ("active", "waits to be confirmed")):
            with self.report.step(f"the power fails while a deploy {what}"):
                self.world.stack.set("extraRecords", f"{state}.ts.example.org 100.64.0.9", as_list=True)
                self.power_fails_while(partial(self.world.host.deploying, state))
            self.ends_well()

    def rotation(self) -> None:
        for key in ("deploy-key", "host-key"):
            with self.report.step(f"another {key}: the engine is killed at each step"):
                self.world.stack.rotate(key)
                for name in ("nixos-keys", *CHANGE):
                    self.killed_at(name)
            self.ends_well()

    # The end

    def destroy(self) -> None:
        with self.report.step("the engine is killed while it destroys: the next `pulumi destroy` leaves nothing"):
            with self.up_in_the_background(expect=KILLED, command=self.world.stack.destroy):
                eventually(lambda: self.world.stack.has_begun("server-server"), "the server's end", 60)
                self.world.stack.kill()
            self.world.stack.destroy()
            assert self.world.leftovers() == []
