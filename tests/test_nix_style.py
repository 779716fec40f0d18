"""nix/ can be read: every file is whole by itself, and laid out as nixfmt does, as far as that shows without nixfmt."""

import re
from pathlib import Path

import pytest
from server_image import NIX, ServerImage, sample_tree

FILES = sorted(NIX.rglob("*.nix"), key=str)
WIDTH = 100


def test_every_file_can_be_parsed(server: ServerImage):
    files = [f"{sample_tree()}/{file.relative_to(NIX)}" for file in FILES]
    server.output("nix-instantiate", "--parse", *files)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_lines_are_as_nixfmt_leaves_them(file: Path):
    text = file.read_text()
    assert text.endswith("\n") and not text.endswith("\n\n")
    wrong = [line for line in text.splitlines() if re.search(r"\t|\s$|^(  )* \S", line) or too_long(line)]
    assert wrong == []


def too_long(line: str) -> bool:
    """nixfmt breaks neither comments nor strings."""
    return len(line) > WIDTH and not re.search("[\"'#;]", line.strip()[:-1])
