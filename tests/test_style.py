"""The rules of the repository's own text."""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parent.parent
# From the virtual environment, so that every machine has them, in one version.
TOOLS = Path(sys.executable).parent
OF_THE_REHEARSAL = [f":!scripts/{name}*" for name in ("bench", "install", "rehearse", "test")]
OPERATORS = ["scripts", *OF_THE_REHEARSAL]
PRODUCT = [":(glob)*.py", "components", "nix", "Pulumi.yaml", "Pulumi.prod.yaml", *OPERATORS]


def tracked(*patterns: str) -> list[str]:
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    return subprocess.run(listing, cwd=PROGRAM, check=True, capture_output=True, text=True).stdout.splitlines()


def test_the_product_does_not_know_the_rehearsal():
    matches = [p for p in tracked(*PRODUCT) if "rehearsal" in (PROGRAM / p).read_text(errors="replace").lower()]
    assert matches == []


def test_the_rehearsal_sees_the_product_only_from_outside():
    product = {"components", "scripts"} | {Path(p).stem for p in tracked(":(glob)*.py", *OPERATORS)}
    assert {"rules", "sops", "commands", "init"} <= product
    assert {p: names for p in tracked("rehearsal/*.py") if (names := set(imported(PROGRAM / p)) & product)} == {}


PARTICIPLES = {
    "begun",
    "done",
    "found",
    "given",
    "held",
    "kept",
    "known",
    "made",
    "said",
    "seen",
    "shown",
    "told",
    "wanted",
}
QUESTIONS = {"How", "What", "Whatever", "When", "Where", "Whether", "Which", "Who", "Whoever", "Why"}


@pytest.mark.parametrize("file", tracked("*.py"))
def test_docstrings_begin_with_the_thing_and_variables_name_it(file: str):
    nodes = [*ast.walk(ast.parse((PROGRAM / file).read_text()))]
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    documented = [node for node in nodes if isinstance(node, ast.Module | ast.ClassDef | functions)]
    docstrings = [text for node in documented if (text := ast.get_docstring(node))]
    assert [text for text in docstrings if text.split()[0] in QUESTIONS] == []
    names = [node.id for node in nodes if isinstance(node, ast.Name)] + [a.arg for a in nodes if isinstance(a, ast.arg)]
    assert PARTICIPLES.intersection(name.lower().strip("_") for name in names) == set()


def test_a_class_name_is_in_one_module():
    modules = Counter(
        node.name
        for file in tracked("*.py")
        for node in ast.parse((PROGRAM / file).read_text()).body
        if isinstance(node, ast.ClassDef)
    )
    assert [name for name, times in modules.items() if times > 1] == []


def imported(file: Path) -> Iterator[str]:
    """The packages and modules that a file imports, by the first part of their names."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


def test_the_picture_on_the_box_fits_the_box():
    assert len((PROGRAM / "__main__.py").read_text().splitlines()) <= 60


@pytest.mark.parametrize("arguments", [("check",), ("format", "--check")], ids=lambda arguments: arguments[0])
def test_python_is_formatted_and_linted(arguments: tuple[str, ...]):
    passes("ruff", *arguments, ".")


def test_types_are_right():
    passes("mypy")


@pytest.mark.parametrize("place", ["rehearsal/nixpkgs/system", "rehearsal/sops-nix"])
def test_types_are_right_where_modules_import_each_other_by_name(place: str):
    passes("mypy", "--strict", "--config-file=", "--cache-dir=/dev/null", "--explicit-package-bases", ".", place=place)


def test_shell_scripts_pass_shellcheck():
    scripts = [path for path in tracked() if is_shell(PROGRAM / path)]
    assert "components/remote/deploy.sh" in scripts
    passes("shellcheck", *scripts)


def test_shell_without_a_first_line_passes_shellcheck():
    parts = tracked("nix/register-api-key.sh", "rehearsal/nixpkgs/*.sh")
    scripts = [path for path in parts if not is_shell(PROGRAM / path)]
    # Their variables are given by what runs them.
    passes("shellcheck", "--shell=bash", "--exclude=SC1090,SC2154", *scripts)


def is_shell(path: Path) -> bool:
    return path.is_file() and path.read_bytes().startswith((b"#!/bin/sh", b"#!/usr/bin/env bash"))


def passes(tool: str, *arguments: str, place: str = ".") -> None:
    process = subprocess.run([TOOLS / tool, *arguments], cwd=PROGRAM / place, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
