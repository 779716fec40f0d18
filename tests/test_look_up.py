"""A look-up that fails ends the program in the project's own words, whatever else the program waits for."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import pulumi
import pytest
from pulumi.runtime import settings, stack

from components import hetzner
from components.ending import Refusal

LISTS = ("server_types", "servers")


async def fails() -> list:
    raise Exception("invocation of hcloud:index/getServers:getServers returned an error: unable to authenticate")


async def never_answers() -> list:
    return await asyncio.Future()


def listed(name: str, answer: Callable[[], Awaitable[list]], opts: pulumi.InvokeOptions) -> pulumi.Output[dict]:
    return pulumi.Output.from_input({name: answer()})


async def look_up() -> None:
    hetzner.look_up(pulumi.InvokeOptions())
    await asyncio.wait_for(stack.wait_for_rpcs(), 5)


@pytest.mark.parametrize("failing", LISTS)
def test_the_other_look_up_need_not_answer_first(failing: str, monkeypatch: pytest.MonkeyPatch):
    settings.reset_options()
    for name in LISTS:
        answer = fails if name == failing else never_answers
        monkeypatch.setattr(hetzner.hcloud, f"get_{name}_output", partial(listed, name, answer))
    with pytest.raises(Refusal, match=r"asking Hetzner what it has: unable to authenticate\. HCLOUD_TOKEN"):
        asyncio.run(look_up())
