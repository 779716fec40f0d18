"""A refusal by a cloud is one sentence of the preview: the real program and engine, with emulated clouds."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from emulated import TOKEN, hetzner

from components import headscale, nixos
from rehearsal import plugins
from rehearsal.emulators.api import serve
from rehearsal.emulators.cloudflare import Cloudflare
from rehearsal.operator.stack import Stack
from rehearsal.setup import programs

ZONE = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, engine: Path) -> Iterator[Stack]:
    """A stack with its keys, and both clouds."""
    directory = tmp_path_factory.mktemp("clouds")
    home = directory / "home"
    plugins.install(home, Path(sys.executable))
    plugins.install_hcloud(home, programs.build(print))
    stack = Stack(directory / "stack", engine, home)
    stack.make_secrets()
    with hetzner() as cloud, serve(Cloudflare({"example.org": ZONE}, "token")) as url:
        stack.config("set", "hcloud:endpoint", cloud.url)
        stack.config("set", "cloudflare:baseUrl", url)
        stack.environment |= {"HCLOUD_TOKEN": TOKEN, "CLOUDFLARE_API_TOKEN": "token"}
        yield stack


HETZNER = "HCLOUD_TOKEN, or `pulumi config set --secret hcloud:token`, is a token that may read and write"
CLOUDFLARE = "is a token with Zone Read and DNS Edit for example.org"
MISTAKES = {
    "no token of Hetzner": ("HCLOUD_TOKEN", "", "HCLOUD_TOKEN is not set; ", HETZNER),
    "half a token of Hetzner": (
        "HCLOUD_TOKEN",
        "z" * 32,
        "HCLOUD_TOKEN has 32 letters, and Hetzner's have 64",
        HETZNER,
    ),
    "another token of Hetzner": ("HCLOUD_TOKEN", "z" * 64, "asking Hetzner what it has: ", HETZNER),
    "no token of Cloudflare": ("CLOUDFLARE_API_TOKEN", "", "CLOUDFLARE_API_TOKEN is not set; ", CLOUDFLARE),
    "another token of Cloudflare": (
        *("CLOUDFLARE_API_TOKEN", "z" * 40),
        *("asking Cloudflare for the zone example.org: ", CLOUDFLARE),
    ),
}


@pytest.mark.parametrize(("name", "value", "question", "repair"), MISTAKES.values(), ids=MISTAKES)
def test_a_token_that_opens_nothing_is_reported(stack: Stack, name: str, value: str, question: str, repair: str):
    before = stack.environment[name]
    stack.environment[name] = value
    try:
        output = stack.preview(expect=1).output
    finally:
        stack.environment[name] = before
    assert_told(output, question, repair)
    assert not value or value not in output


def test_a_zone_that_is_not_there_is_reported(stack: Stack):
    stack.set("zone", "org.example")
    stack.set("headscaleName", "headscale.org.example")
    stack.set("uiName", "headscale-ui.org.example")
    output = stack.preview(expect=1).output
    for key in ("zone", "headscaleName", "uiName"):
        stack.unset(key)
    assert_told(output, "asking Cloudflare for the zone org.example: ", "headscale:zone names the zone that holds")


def test_a_preview_says_what_each_step_does_and_how_long_it_takes(stack: Stack):
    output = " ".join(stack.preview().output.split())
    purposes = {*nixos.PURPOSES.values(), *headscale.PURPOSES.values()}
    assert {purpose for purpose in purposes if purpose not in output} == set()


def test_an_up_of_a_part_ends_well(stack: Stack):
    stack.flags = ("--target", "**::server*", "--target", "**::dns*")
    try:
        assert "server-server" in stack.up().changed()
        stack.preview()
    finally:
        stack.flags = ()
        stack.destroy()


def assert_told(output: str, problem: str, repair: str) -> None:
    lines = [line for line in output.splitlines() if problem in line]
    assert lines and all(repair in line for line in lines), output
