"""The sources that nix will fetch: headscale's, taken from Go's module proxy here, has the hashes of pins.json."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from server_image import NIX, ServerImage

MODULE = "github.com/juanfont/headscale"
GO_MODULE = NIX.parent / "rehearsal/go/headscale/go.mod"
# The only file that may be run in headscale's repository; Go's archives carry no modes.
SCRIPTS = ["integration/run.sh"]


def go(*arguments: str, place: Path) -> str:
    environment = os.environ | {"GOFLAGS": "", "GOWORK": "off"}
    process = subprocess.run(["go", *arguments], cwd=place, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def pin() -> dict[str, str]:
    return json.loads((NIX / "packages/pins.json").read_text())["headscale"]


@pytest.fixture(scope="module")
def source(server: ServerImage, pin: dict[str, str]) -> Iterator[Path]:
    """headscale's repository as its archive has it, on the image's disk."""
    target = server.disk / "upper/headscale-source"
    module = json.loads(go("mod", "download", "-json", f"{MODULE}@v{pin['version']}", place=NIX))
    shutil.copytree(module["Dir"], target, copy_function=shutil.copyfile)
    for path in (target, *target.rglob("*")):
        path.chmod(0o755 if path.is_dir() or str(path.relative_to(target)) in SCRIPTS else 0o644)
    yield target
    shutil.rmtree(target)


def test_the_rehearsal_builds_the_version_that_is_pinned():
    pinned = json.loads((NIX / "packages/pins.json").read_text())["headscale"]["version"]
    assert f"\t{MODULE} v{pinned} // indirect\n" in GO_MODULE.read_text(), (
        f"in {GO_MODULE.parent}: go get -tool {MODULE}/cmd/headscale@v{pinned}"
    )


def nix_hash(server: ServerImage, path: Path) -> str:
    return server.output("nix", "hash", "path", f"/{path.relative_to(server.disk / 'upper')}").strip()


def test_the_source_has_the_pinned_hash(server: ServerImage, source: Path, pin: dict[str, str]):
    assert nix_hash(server, source) == pin["hash"]


def test_its_dependencies_have_the_pinned_hash(server: ServerImage, source: Path, pin: dict[str, str]):
    """`vendorHash` is of what buildGoModule's first step writes."""
    vendor = source.with_name("headscale-vendor")
    go("mod", "vendor", "-o", str(vendor), place=source)
    try:
        assert nix_hash(server, vendor) == pin["vendorHash"]
        assert (vendor / "tailscale.com/net/dnsfallback/dns-fallback-servers.json").is_file()
    finally:
        shutil.rmtree(vendor)


def test_the_version_that_nix_replaces_is_there_once(source: Path):
    assert (source / "hscontrol/types/version.go").read_text().count('"dev"') == 1
