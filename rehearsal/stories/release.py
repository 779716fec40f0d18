"""The system that the conversion boots is of another NixOS release than the one that is deployed."""

import shutil
from pathlib import Path

from rehearsal.operator.stack import PROGRAM
from rehearsal.sandbox.capsule import Run
from rehearsal.setup import image
from rehearsal.stories.main import assert_untouched
from rehearsal.story import Story

KERNEL = Path("system/kernel")


class Release(Story):
    @staticmethod
    def program(run: Run) -> Path:
        directory = run.directory("program")
        shutil.copytree(PROGRAM, directory, ignore=shutil.ignore_patterns(".*", "__pycache__"), dirs_exist_ok=True)
        bootstrap = directory / "rehearsal/nixpkgs-bootstrap"
        shutil.copytree(directory / "rehearsal/nixpkgs", bootstrap)
        (bootstrap / KERNEL).write_text("the kernel of an earlier release\n")
        return directory

    def tell(self) -> None:
        self.up()
        with self.report.step("it ends with the kernel that it deployed, after one more reboot"):
            booted = self.kernel("booted-system")
            assert booted == self.kernel("current-system")
            assert "earlier release" not in self.world.host.read("/run/booted-system/kernel")
            assert self.world.host.deploys_begun() == 1
        with self.report.step("joinCommand joins a device, and the preview is clean"):
            with self.world.device("laptop") as laptop:
                laptop.join(self.outputs["joinCommand"])
            assert_untouched(self.world.stack.preview("--expect-no-changes"))
        with self.report.step("a later deploy with another kernel reboots nobody's server"):
            self.another_kernel()
            self.world.stack.up()
            assert self.kernel("current-system") != booted
            # Nobody logs in to a server that is about to reboot.
            self.log_in()
            assert self.kernel("booted-system") == booted

    def another_kernel(self) -> None:
        nixpkgs = self.world.machines[self.world.server_id].disk.root / image.PREFIX / "nixpkgs"
        (nixpkgs / KERNEL).write_text("the kernel of a later release\n")
        self.world.stack.set("extraRecords", "grafana.ts.example.org 100.64.0.9", as_list=True)

    def kernel(self, system: str) -> str:
        return self.world.host.run("readlink", "-f", f"/run/{system}/kernel")
