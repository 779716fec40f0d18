"""What the repository promises of its own text."""

import re
import subprocess
import sys
from pathlib import Path

from rehearsal import doctor

PROGRAM = Path(__file__).resolve().parent.parent
PRODUCT = ["components", "nix", "config.py", "__main__.py", "Pulumi.yaml", "Pulumi.prod.yaml"]


def tracked(*patterns: str) -> list[str]:
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    return subprocess.run(listing, cwd=PROGRAM, check=True, capture_output=True, text=True).stdout.splitlines()


def test_the_product_does_not_know_the_rehearsal():
    found = [p for p in tracked(*PRODUCT) if "rehearsal" in (PROGRAM / p).read_text(errors="replace").lower()]
    assert found == []


def test_the_rehearsal_sees_the_product_only_from_outside():
    imports = re.compile(r"^\s*(from|import) (components|config|rules)\b", re.MULTILINE)
    assert [p for p in tracked("rehearsal/*.py") if imports.search((PROGRAM / p).read_text())] == []


def test_the_picture_on_the_box_fits_the_box():
    assert len((PROGRAM / "__main__.py").read_text().splitlines()) <= 60


def test_python_is_formatted_and_linted():
    for arguments in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *arguments, "."], cwd=PROGRAM, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout


def test_shell_scripts_pass_shellcheck():
    scripts = [path for path in tracked() if is_shell(PROGRAM / path)]
    assert "components/remote/deploy.sh" in scripts
    done = subprocess.run(["shellcheck", *scripts], cwd=PROGRAM, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def is_shell(path: Path) -> bool:
    return path.is_file() and path.read_bytes().startswith((b"#!/bin/sh", b"#!/usr/bin/env bash"))


def test_set_up_installs_every_package_that_the_doctor_asks_for():
    installed = (PROGRAM / "scripts/install").read_text().split("packages=(")[1].split(")")[0].split()
    assert set(doctor.PACKAGES) | {"netbase"} <= set(installed)
