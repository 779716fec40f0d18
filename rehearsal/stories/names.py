"""headscale gets another name while devices are online: none is lost, and new ones join by the new name."""

from functools import partial

from rehearsal.people.devices import Device
from rehearsal.sandbox.wait import eventually
from rehearsal.stories.main import assert_untouched
from rehearsal.story import HEADSCALE, JOIN_TIMEOUT, UI, Story

NEW, OTHER_UI = "vpn.example.org", "ui.example.org"


class OtherName(Story):
    def tell(self) -> None:
        self.up()
        with self.joined("laptop", "phone") as (self.laptop, self.phone):
            eventually(lambda: self.phone.path_to(self.laptop) == "direct", "a direct path", JOIN_TIMEOUT)
            self.told_before()
            self.rename()
            with self.world.device("tablet") as tablet:
                self.join_by_new_name(tablet)
                self.who_uses_which()
                self.restart()
            self.other_interface()

    def told_before(self) -> None:
        with self.report.step(
            "another headscaleName: the preview says what it costs, and how to keep the former"
        ) as line:
            self.world.stack.set("headscaleName", NEW)
            output = self.world.stack.preview().output
            line.note = f"{HEADSCALE} is no longer served: 2 devices are connected by it"
            assert line.note in output, output
            assert f"'headscale:formerHeadscaleNames[0]' {HEADSCALE}`" in output, output

    def rename(self) -> None:
        with self.report.step("with it kept, `pulumi up` renames headscale, and the devices go on talking") as line:
            self.world.stack.set("formerHeadscaleNames", HEADSCALE, as_list=True)
            with self.pinging() as pings:
                outcome = self.world.stack.up()
            line.note = pings()
            assert "delete" not in outcome.changed().values(), outcome.changed()
            assert "replace" not in outcome.changed().values(), outcome.changed()
        with self.report.step("  both are connected to headscale, and the preview is clean"):
            for device in (self.laptop, self.phone):
                eventually(partial(self.connected, device), f"{device.name} to be online", JOIN_TIMEOUT)
            assert_untouched(self.world.stack.preview("--expect-no-changes"))

    def join_by_new_name(self, tablet: Device) -> None:
        with self.report.step("a new device joins by the new name, and pings one of before") as line:
            command = line.note = self.world.stack.outputs()["joinCommand"]
            line.note = " ".join(command.split()[:4])
            assert NEW in line.note, line.note
            tablet.join(command)
            eventually(lambda: tablet.ping(self.laptop.addresses()[0]), "tablet pings laptop", JOIN_TIMEOUT)

    def who_uses_which(self) -> None:
        with self.report.step("the preview says how many devices still use the former name") as line:
            line.note = f"2 devices are connected by {HEADSCALE}"
            eventually(lambda: line.note in self.world.stack.preview().output, line.note, JOIN_TIMEOUT)

    def restart(self) -> None:
        with self.report.step("headscale and NGINX restarted: all three come back, each by its own name"):
            self.world.host.restart("headscale.service", "nginx.service")
            eventually(
                lambda: f"2 devices are connected by {HEADSCALE}" in self.world.stack.preview().output,
                f"two devices to be connected by {HEADSCALE}",
                JOIN_TIMEOUT,
            )

    def other_interface(self) -> None:
        with self.report.step("another uiName: said beforehand, and no device loses its connection") as line:
            self.world.stack.set("uiName", OTHER_UI)
            assert f"{UI} no longer answers" in self.world.stack.preview().output
            with self.pinging() as pings:
                self.world.stack.up()
            line.note = pings()
            assert self.get(f"https://{OTHER_UI}/web/")[0] == 200

    def connected(self, device: Device) -> bool:
        """True where headscale says that the device is online."""
        nodes = self.world.headscale.nodes()
        return any(node["name"] == device.name and node.get("online") for node in nodes)
