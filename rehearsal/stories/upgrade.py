"""A stack of the last release gets the program of today by one `pulumi up`, while its devices talk.

The release is taken out of git's history, with its small nixpkgs. Python's packages and the Go programs are today's.
"""

import shutil
from pathlib import Path

from rehearsal.operator.stack import PROGRAM
from rehearsal.sandbox.capsule import Run
from rehearsal.sandbox.processes import check
from rehearsal.sandbox.wait import eventually
from rehearsal.setup import image
from rehearsal.stories.main import assert_untouched
from rehearsal.story import JOIN_TIMEOUT, Story

RELEASE = "eb785cd4bc49ff0debe06dbbb694d4fef1e59d06"
# A clone may belong to another user than root.
GIT = ("git", "-C", str(PROGRAM), "-c", "safe.directory=*")


class Upgrade(Story):
    @staticmethod
    def program(run: Run) -> Path:
        directory = run.directory("release")
        if RELEASE not in check([*GIT, "rev-list", "HEAD"]):
            raise SystemExit(f"upgrade: this clone has no commit {RELEASE[:12]}; `git fetch --unshallow` brings it")
        check([*GIT, "archive", f"--output={directory}.tar", RELEASE])
        check(["tar", "-x", "-C", str(directory), "-f", f"{directory}.tar"])
        return directory

    def tell(self) -> None:
        self.up()
        with self.joined("laptop", "phone") as (self.laptop, self.phone):
            # A relayed packet is lost where NGINX's unit has changed and is restarted.
            eventually(lambda: self.phone.ping(self.laptop.addresses()[0]), "phone pings laptop", JOIN_TIMEOUT)
            eventually(lambda: self.phone.path_to(self.laptop) == "direct", "a direct path", JOIN_TIMEOUT)
            self.upgrade()
            with self.report.step("after it the preview is clean"):
                assert_untouched(self.world.stack.preview("--expect-no-changes"))
        with self.report.step("a device joins with the key of before"), self.world.device("tablet") as tablet:
            tablet.join(self.outputs["joinCommand"])

    def upgrade(self) -> None:
        deploys = self.world.host.deploys_begun()
        with self.report.step("`pulumi up` of today's program replaces nothing and deploys at most once") as line:
            self.world.stack.program = PROGRAM
            self.lay_nixpkgs()
            with self.pinging() as pings:
                outcome = self.world.stack.up()
            assert set(outcome.changed().values()) <= {"create", "update"}, outcome.changed()
            assert self.world.host.deploys_begun() <= deploys + 1
            line.note = f"{len(outcome.changed())} resources changed, {pings()}"
        with self.report.step("addresses, keys and users are those of before"):
            outputs = self.world.stack.outputs()
            former = {name: value for name, value in self.outputs.items() if name != "generation"}
            assert {name: outputs.get(name) for name in former} == former

    def lay_nixpkgs(self) -> None:
        """Today's flake.lock names another nixpkgs, and inputs that the release had not."""
        place = self.world.machines[self.world.server_id].disk.root / image.PREFIX
        shutil.copy(PROGRAM / "rehearsal/image/bin/nix", place / "bin/nix")
        for name in ("nixpkgs", "sops-nix"):
            shutil.rmtree(place / name)
            image.lay_nixpkgs(PROGRAM / "rehearsal" / name, place / name)
