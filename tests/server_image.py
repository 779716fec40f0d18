"""A server's image that is not booted: the real nix, nginx and headscale run in it, one command at a time."""

import atexit
import json
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rehearsal.setup import image, programs

HERE = Path(__file__).parent
NIX = HERE.parent / "nix"
CAPSULE = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child")
BUILD = ("nix", "build", "--no-link", "--print-out-paths", "--no-update-lock-file", "--no-write-lock-file")


@dataclass(frozen=True)
class ServerImage:
    layers: tuple[Path, ...]
    disk: Path

    def command(self, *argv: str) -> list[str]:
        """The command that runs a command in the image, from here; no two at once."""
        return [*CAPSULE, str(HERE / "in-image.sh"), ":".join(map(str, self.layers)), str(self.disk), *argv]

    def run(self, *argv: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*argv), input=stdin, capture_output=True, text=True, timeout=120)

    def output(self, *argv: str, stdin: str = "") -> str:
        process = self.run(*argv, stdin=stdin)
        assert process.returncode == 0, f"{argv}: {process.returncode}\n{process.stdout}{process.stderr}"
        return process.stdout

    def put(self, path: str, text: str) -> None:
        """Write a file where no command is running."""
        file = self.disk / "upper" / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        # A link leads to somewhere on the server.
        if file.is_symlink():
            file.unlink()
        file.write_text(text)

    def tree(self, name: str, module: str = "{ }", **deployment: Any) -> str:
        """Lay down a copy of nix/ with one more module and with other deployment data; its path in the image."""
        target = self.disk / "upper/trees" / name
        shutil.copytree(NIX, target, ignore=shutil.ignore_patterns("__pycache__", "headscale.yaml"))
        sample = json.loads((NIX / "deployment.json").read_text())
        (target / "deployment.json").write_text(json.dumps(sample | deployment))
        for system in ("bootstrap", "configuration"):
            (target / f"{system}.nix").rename(target / f"its-{system}.nix")
            (target / f"{system}.nix").write_text(f"{{ imports = [ ./its-{system}.nix ./more.nix ]; }}\n")
        (target / "more.nix").write_text(module + "\n")
        return f"/trees/{name}"

    def build(self, tree: str, system: str = "headscale", attribute: str = "system.build.toplevel") -> str:
        return self.output(*BUILD, f"path:{tree}#nixosConfigurations.{system}.config.{attribute}").strip()

    def evaluate(self, tree: str, attribute: str, system: str = "headscale") -> Any:
        value = f"path:{tree}#nixosConfigurations.{system}.config.{attribute}"
        return json.loads(self.output("nix", "eval", "--json", value))

    def failure(self, tree: str, system: str = "headscale") -> str:
        process = self.run(*BUILD, f"path:{tree}#nixosConfigurations.{system}.config.system.build.toplevel")
        assert process.returncode != 0, f"{tree} was built: {process.stdout}"
        return process.stderr

    def read(self, path: str) -> str:
        return self.output("cat", path)

    def unit(self, system: str, name: str) -> str:
        return self.read(f"{system}/etc/systemd/system/{name}")


@cache
def server_image() -> ServerImage:
    """One disk for all tests of a run: what one has built, the next need not build again."""
    disk = Path(tempfile.mkdtemp(prefix="server-image-"))
    atexit.register(shutil.rmtree, disk)
    return ServerImage((image.layer(programs.build(print)), image.base(print)), disk)


@cache
def sample_tree() -> str:
    return server_image().tree("sample")


@cache
def sample_system() -> str:
    return server_image().build(sample_tree())


def packaged_derp_map() -> str:
    """The DERP map that a new server starts with."""
    rules = server_image().read(f"{sample_system()}/etc/tmpfiles.d/00-nixos.conf")
    (packaged,) = re.findall(r"^C /var/lib/derp-map/derp.yaml .* (\S+)$", rules, re.MULTILINE)
    return server_image().read(packaged)


def lay_derp_map() -> None:
    """Do what systemd-tmpfiles does on a server before headscale starts."""
    server_image().put("/var/lib/derp-map/derp.yaml", packaged_derp_map())
