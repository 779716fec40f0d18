"""The page of scripts/join: what it says, what it holds, and what it refuses."""

import base64
import io
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import zxingcpp
from PIL import Image

PROGRAM = Path(__file__).resolve().parent.parent
URL, KEY, END = "https://headscale.example.org", f"hskey-auth-{'a' * 12}-{'b' * 64}", "2026-12-02T00:41:45Z"
OUTPUTS = {
    "headscaleUrl": URL,
    "users": ["admin", "bob"],
    "preauthKeys": {"admin": KEY, "bob": "[secret]"},
    "preauthKeysExpireAt": {"admin": END},
}
# Shows secrets only when asked to, as Pulumi does.
PULUMI = """#!/bin/sh
case "$*" in
*--show-secrets*) cat "$(dirname "$0")/outputs.json" ;;
*) sed 's/hskey-auth-[a-z-]*/[secret]/' "$(dirname "$0")/outputs.json" ;;
esac
"""


class Texts(HTMLParser):
    """The text of each element that has an id, and where anything would be loaded from."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.by_id: dict[str, str] = {}
        self.sources: list[str] = []
        self._id = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        names = dict(attributes)
        self._id = names.get("id") or ""
        self.sources += [value for name in ("src", "href") if (value := names.get(name))]

    def handle_data(self, data: str) -> None:
        self.by_id[self._id] = self.by_id.get(self._id, "") + data
        self._id = ""


def join(place: Path, *arguments: str, outputs: dict = OUTPUTS) -> subprocess.CompletedProcess[str]:
    (place / "outputs.json").write_text(json.dumps(outputs))
    (place / "pulumi").write_text(PULUMI)
    (place / "pulumi").chmod(0o755)
    environment = os.environ | {"PATH": f"{place}:{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = [PROGRAM / "scripts/join", "--output", place / "page.html", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_without_key_the_page_holds_none(tmp_path: Path):
    process = join(tmp_path, "admin")
    assert process.returncode == 0, process
    page = (tmp_path / "page.html").read_text()
    assert "hskey-auth" not in page + process.stdout
    assert Texts(page).by_id["linux"] == f"tailscale up --login-server {URL}"


def test_with_key_it_says_so_and_until_when(tmp_path: Path):
    process = join(tmp_path, "admin", "--key")
    page = (tmp_path / "page.html").read_text()
    texts = Texts(page).by_id
    assert texts["linux"] == f"tailscale up --login-server {URL} --auth-key {KEY}"
    assert texts["key"] == KEY and END in page
    assert (tmp_path / "page.html").stat().st_mode & 0o777 == 0o600
    assert KEY not in process.stdout and "it holds a key" in process.stdout


def test_the_page_loads_nothing_and_its_code_is_the_servers_address(tmp_path: Path):
    join(tmp_path, "admin")
    (source,) = Texts((tmp_path / "page.html").read_text()).sources
    kind, _, data = source.partition(",")
    assert kind == "data:image/png;base64"
    (code,) = zxingcpp.read_barcodes(Image.open(io.BytesIO(base64.b64decode(data))))
    assert code.text == URL


def test_the_code_is_shown_in_a_terminal_too(tmp_path: Path):
    lines = re.findall("[█▀▄]", join(tmp_path, "admin", "--qr").stdout)
    assert len(lines) > 100


@pytest.mark.parametrize(
    ("user", "outputs", "message"),
    [
        ("eve", OUTPUTS, "eve is not one of headscale:users, which are admin, bob"),
        ("admin", {}, "the stack has no outputs yet; `pulumi up` makes them"),
    ],
)
def test_a_mistake_is_reported_and_no_page_is_written(tmp_path: Path, user: str, outputs: dict, message: str):
    process = join(tmp_path, user, outputs=outputs)
    assert process.stderr == f"scripts/join: {message}\n"
    assert process.returncode == 1 and not (tmp_path / "page.html").exists()
