"""headscale ignores a key that it does not know, without a word: every key that is set is looked for in its source."""

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from server_image import ServerImage, sample_tree

from rehearsal.setup.image import HEADSCALE_MODULE

pytestmark = pytest.mark.usefixtures("engine")
MODULE = "github.com/juanfont/headscale"
# Each of these reads the key that it is given; SetDefault alone does not make a key one that is read.
READ = re.compile(r'\b(?:viper\.(?:Get\w*|IsSet|UnmarshalKey)|GetFileMode)\(\s*"([\w.]+)"')


def listed(what: str) -> str:
    command = ["go", "list", "-m", "-f", f"{{{{.{what}}}}}", MODULE]
    return subprocess.run(command, cwd=HEADSCALE_MODULE, check=True, capture_output=True, text=True).stdout.strip()


def code(go: str) -> str:
    return re.sub("//.*", "", go)


@cache
def read_keys() -> frozenset[str]:
    sources = [path for path in Path(listed("Dir")).rglob("*.go") if not path.name.endswith("_test.go")]
    return frozenset(key for source in sources for key in READ.findall(code(source.read_text())))


def set_keys(settings: dict[str, Any], above: str = "") -> Iterator[str]:
    """Down to what headscale reads as a whole: a value, a list, or a set whose names are the operator's."""
    for name, value in settings.items():
        key = above + name
        if isinstance(value, dict) and key not in read_keys():
            yield from set_keys(value, f"{key}.")
        else:
            yield key


def unknown(settings: dict[str, Any]) -> list[str]:
    return sorted(set(set_keys(settings)) - read_keys())


@pytest.fixture
def settings(server: ServerImage) -> dict[str, Any]:
    return server.evaluate(sample_tree(), "services.headscale.settings")


def test_headscale_reads_every_key_that_is_set(settings: dict[str, Any]):
    assert {"server_url", "unix_socket_permission", "derp.server.verify_clients"} <= set(set_keys(settings))
    assert unknown(settings) == []


@pytest.mark.parametrize(
    "misspelt", [{"trusted_proxy": []}, {"derp": {"server": {"verify_client": True}}}, {"dns": {"split": {"x": []}}}]
)
def test_a_key_that_headscale_does_not_read_is_found(misspelt: dict[str, Any]):
    assert unknown(misspelt) == list(set_keys(misspelt))
