"""A server is deleted behind the program, before its second deploy and after one: `pulumi up` builds it again."""

from rehearsal.stories.main import assert_untouched
from rehearsal.story import Story


class Rebuilt(Story):
    def tell(self) -> None:
        self.up()
        self.lost("before a second deploy")
        with self.report.step("a second deploy"):
            self.world.stack.set("extraRecords", "grafana.ts.example.org 100.64.0.9", as_list=True)
            self.world.stack.up()
        self.lost("after it")

    def lost(self, when: str) -> None:
        with self.report.step(f"the server is deleted at Hetzner {when}: `pulumi up` builds it again") as line:
            self.world.delete_server()
            outcome = self.world.stack.up()
            self.outputs = self.world.stack.outputs()
            line.note = f"{len(outcome.changed())} resources changed"
            assert self.world.host.deploys_begun() == 1
        with self.report.step("  it serves, its key joins a device, and the preview is clean"):
            with self.world.device(f"device-{self.world.server_id}") as device:
                device.join(self.outputs["joinCommand"])
            assert_untouched(self.world.stack.preview("--expect-no-changes"))
