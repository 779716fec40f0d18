"""scripts/update moves every pin or none: its rules, and the command with the real nix and sources laid down here."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from server_image import HERE, NIX, ServerImage

from scripts import update

SCRIPT = NIX.parent / "scripts/update"
RELEASES = ["0.28.0", "0.29.3", "0.29.4", "0.30.0-beta.1", "0.30.1", "0.30.2-rc.1", "0.31.0", "nightly", "1.0.0"]
PINS = {
    "headscale": {"version": "0.29.3", "hash": update.UNKNOWN, "vendorHash": update.UNKNOWN},
    "headscale-ui": {"version": "2026.03.17", "hash": update.UNKNOWN},
}
ENVIRONMENT = [
    "PATH=/usr/lib/rehearsal/libexec:/usr/sbin:/usr/bin",
    "NIX_CONFIG=experimental-features = nix-command flakes\nsandbox = false\nbuild-users-group =\nsubstituters =",
]


@pytest.mark.parametrize("later", ["0.29.3", "0.29.4", "0.30.0", "0.30.1", "0.30.0-beta.1"])
def test_headscale_may_move_within_a_minor_version_and_to_the_next(later: str):
    update.check_step("headscale", "0.29.3", later)


@pytest.mark.parametrize("later", ["0.31.0", "1.0.0", "1.30.0"])
def test_headscale_may_not_skip_a_minor_version(later: str):
    with pytest.raises(update.Refused, match=r"leaves out a minor version; deploy a 0\.30 first"):
        update.check_step("headscale", "0.29.3", later)


@pytest.mark.parametrize(
    ("what", "former", "later"),
    [
        ("headscale", "0.29.3", "0.29.2"),
        ("headscale", "0.29.3", "0.28.9"),
        ("headscale", "0.30.0", "0.30.0-rc.1"),
        ("headscale", "0.30.0-rc.10", "0.30.0-rc.9"),
        ("headscale-ui", "2026.03.17", "2025.12.01"),
    ],
)
def test_nothing_goes_back(what: str, former: str, later: str):
    with pytest.raises(update.Refused, match=f"{later} is older than {former}"):
        update.check_step(what, former, later)


def test_the_newest_is_released_and_within_reach():
    assert update.newest("headscale", "0.29.3", RELEASES) == "0.30.1"
    assert update.newest("headscale", "0.31.0", RELEASES) == "0.31.0"
    assert update.newest("headscale-ui", "2026.03.17", ["2025.01.01", "2026.11.02", "2027.01.01-beta1"]) == "2026.11.02"


def test_the_newest_is_looked_for_among_upstreams_tags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    upstream = tmp_path / "juanfont/headscale"
    git = ("git", "-C", str(upstream), "-c", "user.name=x", "-c", "user.email=x@example.org")
    subprocess.run(["git", "init", "--quiet", str(upstream)], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message", "x"], check=True)
    for tag in RELEASES:
        subprocess.run([*git, "tag", "--annotate", "--message", "x", f"v{tag}"], check=True)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{tmp_path}/.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "https://github.com/")
    assert update.newest("headscale", "0.29.3", update._tags("headscale")) == "0.30.1"


def test_without_nix_it_says_what_it_needs(tmp_path: Path):
    (tmp_path / "python3").symlink_to(sys.executable)
    (tmp_path / "dirname").symlink_to(str(shutil.which("dirname")))
    done = subprocess.run([SCRIPT, "--nixpkgs"], env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode != 0
    assert "there is no `nix` on PATH" in done.stderr


class Project:
    """A copy of the project in a server's image, whose flake takes its inputs from directories."""

    def __init__(self, server: ServerImage, name: str):
        self.server, self.place = server, f"/projects/{name}"
        self.root = server.disk / f"upper{self.place}"
        shutil.copytree(NIX, self.root / "nix")
        (self.root / "nix" / update.PINS).write_text(json.dumps(PINS))
        (self.root / "scripts").mkdir()
        shutil.copy(SCRIPT, self.root / "scripts")
        shutil.copy(f"{SCRIPT}.py", self.root / "scripts")
        shutil.copytree(HERE / "update_nixpkgs", self.root / "nixpkgs")
        for source in ("headscale-v0.29.4", "headscale-v0.30.0", "modules-0.29.4", "ui-2026.11.02"):
            server.put(f"/upstream/{source}/source", source)
        flake = self.root / "nix/flake.nix"
        text = flake.read_text().replace("github:NixOS/nixpkgs/nixos-26.05", f"path:{self.place}/nixpkgs")
        flake.write_text(text.replace("github:Mic92/sops-nix", "path:/usr/lib/rehearsal/sops-nix"))
        (self.root / "nix/flake.lock").unlink()
        self.run("nix", "flake", "lock", f"path:{self.place}/nix")

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return self.server.run("env", *ENVIRONMENT, *command)

    def update(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run(f"{self.place}/scripts/update", *arguments)

    def pins(self) -> dict[str, dict[str, str]]:
        return json.loads((self.root / "nix" / update.PINS).read_text())

    def content(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in self.root.rglob("*") if path.is_file()}

    def build(self, attribute: str) -> None:
        done = self.run("nix", "build", "--no-link", f"path:{self.place}/nix#{attribute}")
        assert done.returncode == 0, done.stderr


@pytest.fixture
def project(server: ServerImage, request: pytest.FixtureRequest) -> Project:
    return Project(server, re.sub(r"\W", "-", request.node.name))


def test_it_moves_versions_with_their_hashes(project: Project):
    done = project.update("--headscale", "0.29.4", "--ui", "2026.11.02")
    assert done.returncode == 0, done.stderr
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["headscale", "0.29.3", "->", "0.29.4"],
        ["headscale-ui", "2026.03.17", "->", "2026.11.02"],
    ]
    assert [pin["version"] for pin in project.pins().values()] == ["0.29.4", "2026.11.02"]
    for attribute in ("headscale.src", "headscale.goModules", "headscale-ui.src"):
        project.build(attribute)


def test_it_moves_the_inputs_that_changed(project: Project):
    later = project.root / "nixpkgs/later"
    later.write_text("changed\n")
    os.utime(later, (4e9, 4e9))
    done = project.update("--nixpkgs")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"nixpkgs +\S+ sha256-\S+ -> 2096-10-02 sha256-\S+\n", done.stdout)
    assert "nothing newer" in project.update("--nixpkgs").stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--headscale", "0.31.0"], "leaves out a minor version"),
        (["--headscale", "0.28.0"], "is older than 0.29.3"),
        (["--headscale", "0.29.9"], "headscale.src could not be fetched"),
        (["--ui", "2026.11.02", "--headscale", "0.30.0"], "headscale.goModules could not be fetched"),
        (["--headscale", "v0.30.0"], "is no version"),
    ],
)
def test_what_fails_changes_nothing(project: Project, arguments: list[str], reason: str):
    before = project.content()
    done = project.update(*arguments)
    assert done.returncode != 0
    assert reason in done.stderr
    assert project.content() == before


def test_a_system_that_no_longer_evaluates_changes_nothing(project: Project):
    (project.root / "nix/nix.nix").write_text("{ nix.gone = true; }\n")
    before = project.content()
    done = project.update("--ui", "2026.11.02")
    assert "nix.gone" in done.stderr
    assert project.content() == before


def test_the_inputs_do_not_go_back(project: Project):
    lock = project.root / "nix/flake.lock"
    written = json.loads(lock.read_text())
    written["nodes"]["nixpkgs"]["locked"]["lastModified"] = 4_000_000_000
    lock.write_text(json.dumps(written))
    (project.root / "nixpkgs/other").write_text("other\n")
    before = project.content()
    done = project.update("--nixpkgs")
    assert "is older than" in done.stderr
    assert project.content() == before
