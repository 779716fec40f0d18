"""scripts/update moves every pin or none: its rules, and the command with the real nix and sources laid down here."""

import json
import os
import re
import shutil
import subprocess
import sys
from datetime import date
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
PAGES = NIX.parent / "rehearsal/nixpkgs/pkgs/headscale-ui"
ENVIRONMENT = [
    "PYTHONDONTWRITEBYTECODE=1",
    "PATH=/usr/lib/rehearsal/libexec:/usr/sbin:/usr/bin",
    "NIX_CONFIG=experimental-features = nix-command flakes\nsandbox = false\nbuild-users-group =\nsubstituters =",
]


@pytest.mark.parametrize("later", ["0.29.3", "0.29.4", "0.30.0", "0.30.1", "0.30.0-beta.1"])
def test_headscale_may_move_within_a_minor_version_and_to_the_next(later: str):
    update.check_step("headscale", "0.29.3", later)


@pytest.mark.parametrize("later", ["0.31.0", "1.0.0", "1.30.0"])
def test_headscale_may_not_skip_a_minor_version(later: str):
    with pytest.raises(update.Refused, match=r"skips a minor version; deploy a 0\.30 first"):
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


@pytest.mark.parametrize(
    ("today", "release"),
    [("2026-11-26", "26.05"), ("2026-11-30", "26.05"), ("2026-12-01", "26.11"), ("2027-07-01", "27.05")],
)
def test_a_release_is_out_in_the_month_after_its_own(today: str, release: str):
    branches = [
        "master",
        "nixos-25.11",
        "nixos-26.05",
        "nixos-26.05-small",
        "nixos-26.11",
        "nixos-27.05",
        "nixos-unstable",
    ]
    assert update.newest_release("26.05", branches, date.fromisoformat(today)) == release


def test_the_newest_release_is_the_one_that_is_pinned_where_none_follows():
    assert update.newest_release("26.05", ["nixos-25.11", "nixos-unstable"], date(2030, 1, 1)) == "26.05"


def test_only_the_systems_release_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(update, "_references", lambda *_: ["nixos-26.05", "nixos-unstable"])
    monkeypatch.setattr(update, "newest_release", lambda former, branches, today: "27.05")
    (tmp_path / "flake.nix").write_text((NIX / "flake.nix").read_text())
    assert [*update._release(tmp_path)] == [("NixOS", "26.05", "27.05")]
    before, after = ((place / "flake.nix").read_text().splitlines() for place in (NIX, tmp_path))
    changed = [(old.strip(), new.strip()) for old, new in zip(before, after, strict=True) if old != new]
    url = 'nixpkgs.url = "github:NixOS/nixpkgs/nixos-{}";'
    assert changed == [(url.format("26.05"), url.format("27.05"))]
    assert "release-notes" in next(update._beside(update.Moved("NixOS", "26.05", "27.05")))


def test_what_names_headscales_version_too_is_to_move_along():
    pinned = json.loads((NIX / update.PINS).read_text())["headscale"]["version"]
    (output,) = update._beside(update.Moved("headscale", pinned, "0.99.0"))
    assert output.startswith("rehearsal/go/headscale/go.mod names headscale")
    assert "go get -tool github.com/juanfont/headscale/cmd/headscale@v0.99.0" in output


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
    process = subprocess.run([SCRIPT, "--nixpkgs"], env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert process.returncode != 0
    assert "`nix` is not on PATH" in process.stderr


class ProjectCopy:
    """A copy of the project in a server's image, whose flake takes its inputs from directories."""

    def __init__(self, server: ServerImage, name: str):
        self.server, self.place = server, f"/projects/{name}"
        self.root = server.disk / f"upper{self.place}"
        shutil.copytree(NIX, self.root / "nix")
        shutil.copytree(SCRIPT.parent, self.root / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(HERE / "update_nixpkgs", self.root / "nixpkgs")
        for source in ("headscale-v0.29.4", "headscale-v0.30.0", "modules-0.29.4"):
            server.put(f"/upstream/{source}/source", source)
        for version in ("2026.03.17", "2026.11.02"):
            for page in PAGES.rglob("*.html"):
                server.put(f"/upstream/ui-{version}/{page.relative_to(PAGES)}", page.read_text())
        pages = server.output("nix", "hash", "path", "/upstream/ui-2026.03.17").strip()
        ui = PINS["headscale-ui"] | {"hash": pages}
        (self.root / "nix" / update.PINS).write_text(json.dumps(PINS | {"headscale-ui": ui}))
        flake = self.root / "nix/flake.nix"
        text = re.sub("github:NixOS/nixpkgs/[a-z0-9.-]+", f"path:{self.place}/nixpkgs", flake.read_text())
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
        process = self.run("nix", "build", "--no-link", f"path:{self.place}/nix#{attribute}")
        assert process.returncode == 0, process.stderr


@pytest.fixture
def project(server: ServerImage, request: pytest.FixtureRequest) -> ProjectCopy:
    return ProjectCopy(server, re.sub(r"\W", "-", request.node.name))


def test_it_moves_versions_with_their_hashes(project: ProjectCopy):
    process = project.update("--headscale", "0.29.4", "--ui", "2026.11.02")
    assert process.returncode == 0, process.stderr
    assert [line.split() for line in process.stdout.splitlines()] == [
        ["headscale", "0.29.3", "->", "0.29.4"],
        ["headscale-ui", "2026.03.17", "->", "2026.11.02"],
    ]
    assert [pin["version"] for pin in project.pins().values()] == ["0.29.4", "2026.11.02"]
    for attribute in ("headscale.src", "headscale.goModules", "headscale-ui.src"):
        project.build(attribute)


def test_it_moves_the_inputs_that_changed(project: ProjectCopy):
    later = project.root / "nixpkgs/later"
    later.write_text("changed\n")
    os.utime(later, (4e9, 4e9))
    process = project.update("--nixpkgs")
    assert process.returncode == 0, process.stderr
    lines = [line.split() for line in process.stdout.splitlines()]
    assert [line[0] for line in lines] == ["nixpkgs", "nixpkgs-bootstrap", "nixpkgs-headscale"]
    assert all(line[3:5] == ["->", "2096-10-02"] for line in lines)
    assert "nothing newer" in project.update("--nixpkgs").stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--headscale", "0.31.0"], "skips a minor version"),
        (["--headscale", "0.28.0"], "is older than 0.29.3"),
        (["--headscale", "0.29.9"], "headscale.src could not be fetched"),
        (["--ui", "2026.11.02", "--headscale", "0.30.0"], "headscale.goModules could not be fetched"),
        (["--headscale", "v0.30.0"], "is not a version"),
    ],
)
def test_what_fails_changes_nothing(project: ProjectCopy, arguments: list[str], reason: str):
    before = project.content()
    process = project.update(*arguments)
    assert process.returncode != 0
    assert reason in process.stderr
    assert project.content() == before


def test_a_system_that_no_longer_evaluates_changes_nothing(project: ProjectCopy):
    (project.root / "nix/nix.nix").write_text("{ nix.gone = true; }\n")
    before = project.content()
    process = project.update("--ui", "2026.11.02")
    assert "nix.gone" in process.stderr
    assert project.content() == before


def test_a_system_that_cannot_be_built_changes_nothing(project: ProjectCopy):
    (project.root / "nix/policy.hujson").write_text('{"acls": [{"action": "no such action"}]}')
    before = project.content()
    process = project.update("--ui", "2026.11.02")
    assert "building what has moved" in process.stderr
    assert "policy.hujson" in process.stderr
    assert process.returncode != 0
    assert project.content() == before


def test_the_inputs_do_not_go_back(project: ProjectCopy):
    lock = project.root / "nix/flake.lock"
    written = json.loads(lock.read_text())
    written["nodes"]["nixpkgs"]["locked"]["lastModified"] = 4_000_000_000
    lock.write_text(json.dumps(written))
    (project.root / "nixpkgs/other").write_text("other\n")
    before = project.content()
    process = project.update("--nixpkgs")
    assert "is older than" in process.stderr
    assert project.content() == before
