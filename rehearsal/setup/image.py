"""The disk a rehearsed server starts from: a Debian 13 made once by mmdebstrap, and a layer of our programs.

`base` is the lowest directory of a server's overlay; `layer` lies over it and changes with the project.
Not modelled: a kernel, a boot loader, a partition table. A server is a container.
"""

import io
import json
import re
import shutil
import subprocess
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path

from rehearsal.setup.cache import ROOT, cached, digest

HERE = Path(__file__).resolve().parent.parent
RECIPE = HERE / "image"
PREFIX = Path("usr/lib/rehearsal")
PROGRAMS = ("headscale", "sops", "age-keygen")
HEADSCALE_MODULE = HERE / "go/headscale"
DERP_MAP = Path("net/dnsfallback/dns-fallback-servers.json")
PACKAGES = HERE.parent / "nix/packages"
UI_PATIENCE = 15


def base(report: Callable[[str], None]) -> Path:
    """Return the root directory of a Debian 13 server that has never been booted."""

    def make(root: Path) -> None:
        report("making the Debian 13 image (once, about two minutes)")
        _bootstrap(root)

    return cached("debian", [RECIPE / "packages", RECIPE / "customize.sh"], make)


def _bootstrap(root: Path) -> None:
    command = [
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        "--include=" + ",".join((RECIPE / "packages").read_text().split()),
        *(f"--dpkgopt=path-exclude=/usr/share/{unread}/*" for unread in ("doc", "man", "locale")),
        f"--customize-hook={RECIPE / 'customize.sh'}",
        "trixie",
        str(root),
    ]
    process = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if process.returncode != 0:
        raise SystemExit(
            f"image: mmdebstrap left with status {process.returncode}:\n{process.stderr[-2000:]}"
            "It needs root and a Debian mirror within reach."
        )


def layer(programs: Path, place: Path = HERE) -> Path:
    """Return the directory that lies over `base`: programs, and of `place` the small nixpkgs and stand-in commands."""
    own = [place / part for part in (*inputs_in(place), "debian", "image")]
    release = _release_directory()
    inputs = [*own, *(programs / name for name in PROGRAMS), *([release] if release.is_dir() else [])]

    def make(root: Path) -> None:
        _lay(root / PREFIX, programs, place)
        _lay_vendored(root / PREFIX / "vendor/tailscale.com")
        if release.is_dir():
            shutil.copytree(release, root / PREFIX / "headscale-ui")
        shutil.copytree(place / "debian", root, symlinks=True, dirs_exist_ok=True)
        for directory in [root, *(p for p in root.rglob("*") if p.is_dir())]:
            directory.chmod(0o755)

    return cached("layer", inputs, make)


def _lay(target: Path, programs: Path, place: Path) -> None:
    shutil.copytree(place / "image/bin", target / "bin", symlinks=True)
    for name in PROGRAMS:
        (target / "bin" / name).hardlink_to(programs / name)
    for name in inputs_in(place):
        lay_nixpkgs(place / name, target / name)


def inputs_in(place: Path) -> list[str]:
    """The flake's inputs that the directory has; without one of its own, the bootstrap system's is nixpkgs."""
    return [name for name in ("nixpkgs", "nixpkgs-bootstrap", "sops-nix") if (place / name).is_dir()]


def lay_nixpkgs(source: Path, target: Path) -> None:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))


def _lay_vendored(target: Path) -> None:
    """Take from headscale's own dependency the file that `go mod vendor` would lay into its source."""
    listing = ["go", "list", "-m", "-f", "{{.Dir}}", "tailscale.com"]
    module = subprocess.run(listing, cwd=HEADSCALE_MODULE, check=True, stdout=subprocess.PIPE, text=True)
    (target / DERP_MAP).parent.mkdir(parents=True)
    shutil.copyfile(Path(module.stdout.strip()) / DERP_MAP, target / DERP_MAP)


def ui_release(report: Callable[[str], None]) -> Path | None:
    """Fetch headscale-ui's release once, for `layer` to use. Without it the UI is a stand-in page."""

    def make(directory: Path) -> None:
        with urllib.request.urlopen(_release_url(), timeout=UI_PATIENCE) as answer:
            archive = zipfile.ZipFile(io.BytesIO(answer.read()))
        for member in archive.infolist():
            path = Path(archive.extract(member, directory))
            # Nix's hash of a tree knows whether a file may be executed, and extract() forgets it.
            if path.is_file() and member.external_attr >> 16 & 0o100:
                path.chmod(0o755)

    try:
        return cached("headscale-ui", [_release_url()], make)
    except (OSError, zipfile.BadZipFile) as error:
        report(f"headscale-ui's release could not be fetched ({error}): a small stand-in page takes its place")
        return None


def _release_directory() -> Path:
    return ROOT / f"headscale-ui-{digest([_release_url()])}"


def _release_url() -> str:
    package = PACKAGES / "headscale-ui.nix"
    url = re.search(r'url = "(.+?)"', package.read_text())
    if url is None:
        raise SystemExit(f"image: {package} names no url of the release")
    return url[1].replace("${pin.version}", pinned("headscale-ui"))


def pinned(package: str) -> str:
    """The version of headscale or headscale-ui that a server gets, e.g. 0.29.3."""
    return str(json.loads((PACKAGES / "pins.json").read_text())[package]["version"])
