"""The real programs of the rehearsal, built from the Go modules below go/ and kept in the cache.

The binaries are static, so that they run in a server container as well. Not modelled: cross-compilation.
"""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rehearsal.setup.cache import ROOT, cached

GO = Path(__file__).parent.parent / "go"
# The binaries are stripped: compiling without debug information saves a tenth of the time.
FLAGS = ("-trimpath", "-gcflags=all=-dwarf=false -l")
ENGINE = ("pulumi", "pulumi-language-python", "pulumi-language-python-exec")
OLDEST_ENGINE = (3, 272)
Report = Callable[[str], None]


@dataclass(frozen=True)
class Program:
    """One folder below go/. Its linker variables are set to the version of the module that they belong to."""

    folder: str
    module: str
    packages: str = "tool"
    version_variables: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ()

    def build(self, report: Report) -> Path:
        inputs: list[Path | str] = [
            GO / self.folder,
            repr(self),
            *FLAGS,
            _go(self.folder, "env", "GOVERSION", "GOARCH"),
        ]
        return cached(f"go-{self.folder}", inputs, lambda target: self._make(target, report))

    def _make(self, target: Path, report: Report) -> None:
        report(f"building {self.folder}")
        start = time.monotonic()
        version = self._of_module("Version").removeprefix("v")
        stamps = [f"-X {variable}={version}" for variable in self.version_variables]
        linking = " ".join(["-s", "-w", *stamps])
        _go(self.folder, "build", *FLAGS, f"-ldflags={linking}", "-o", f"{target}/", self.packages)
        for script in self.scripts:
            copy = target / Path(script).name
            shutil.copyfile(Path(self._of_module("Dir"), script), copy)
            copy.chmod(0o755)
        report(f"built {self.folder} in {time.monotonic() - start:.0f} s")

    def _of_module(self, field: str) -> str:
        return _go(self.folder, "list", "-m", "-f", f"{{{{.{field}}}}}", self.module)


_PULUMI_VERSION = ("github.com/pulumi/pulumi/sdk/v3/go/common/version.Version",)
_TAILSCALE_VERSION = ("tailscale.com/version.shortStamp", "tailscale.com/version.longStamp")

PULUMI = (
    Program("engine", "github.com/pulumi/pulumi/pkg/v3", version_variables=_PULUMI_VERSION),
    Program(
        "language-host",
        "github.com/pulumi/pulumi/sdk/v3",
        version_variables=_PULUMI_VERSION,
        scripts=("python/cmd/pulumi-language-python-exec",),
    ),
)
PROGRAMS = (
    Program("headscale", "github.com/juanfont/headscale"),
    Program("secrets", "github.com/getsops/sops/v3"),
    Program("tailscale", "tailscale.com", version_variables=_TAILSCALE_VERSION),
    Program("hcloud", "github.com/hetznercloud/terraform-provider-hcloud", packages="."),
)


def build(report: Report) -> Path:
    """Return the one directory that holds every program, after building what has not been built before."""
    installed = installed_engine()
    programs = PROGRAMS if installed else (*PROGRAMS[:-1], *PULUMI, PROGRAMS[-1])
    # Two at once: while one links, which takes one core, the other compiles.
    with ThreadPoolExecutor(max_workers=2) as pool:
        built = list(pool.map(lambda program: program.build(report), programs))
    files = [file for directory in built for file in sorted(directory.iterdir())]
    return _together([*files, *installed])


def installed_engine() -> tuple[Path, ...]:
    """The operator's own Pulumi with its Python language host, when it is on PATH and new enough."""
    matches = [shutil.which(name) for name in ENGINE]
    files = tuple(Path(path).resolve() for path in matches if path)
    if len(files) < len(ENGINE) or any(ROOT in file.parents for file in files):
        return ()
    version = subprocess.run([files[0], "version"], capture_output=True, text=True, check=True).stdout
    number = re.match(r"v?(\d+)\.(\d+)\.", version)
    return files if number and tuple(map(int, number.groups())) >= OLDEST_ENGINE else ()


def _together(files: list[Path]) -> Path:
    def make(target: Path) -> None:
        for file in files:
            _link(file, target / file.name)

    return cached("programs", [f"{file} {file.stat().st_mtime_ns}" for file in files], make)


def _link(file: Path, target: Path) -> None:
    """Another name for the same file where the file system allows it: the programs are large."""
    try:
        target.hardlink_to(file)
    except OSError:
        shutil.copy2(file, target)


def _go(folder: str, *arguments: str) -> str:
    # An operator's own flags or workspace must not change what is built.
    settings = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false", "GOWORK": "off"}
    environment = os.environ | settings
    try:
        result = subprocess.run(["go", *arguments], capture_output=True, text=True, cwd=GO / folder, env=environment)
    except FileNotFoundError:
        problem = "`go` is not on PATH; install Go 1.26.6 or newer"
        raise SystemExit(f"cannot build the rehearsal's programs: {problem}") from None
    if result.returncode != 0:
        raise SystemExit(f"`go {' '.join(arguments)}` failed in {GO / folder}:\n{result.stderr.strip()}")
    return result.stdout.strip()
