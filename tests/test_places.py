"""An impossible order, and the cost of a change, are told before anything is touched."""

import hashlib
import re
from collections.abc import Callable

import pulumi
import pytest
from mocked import PROGRAM

from components.ending import Refusal

REFUSED = {
    "an unknown location": (
        {"location": "nbg7"},
        None,
        "nbg7 is not one of Hetzner's: .* takes one of ash, fsn1, hel1, nbg1",
    ),
    "an unknown type": (
        {"serverType": "cx99"},
        None,
        "cx99 is not one of Hetzner's: .* has cx23, cx33, cax11 in nbg1",
    ),
    "too little memory": ({"serverType": "cpx11"}, None, "has 2 GB of memory, and becoming NixOS takes 4"),
    "sold out": ({"location": "fsn1"}, None, "cx23 is sold out in fsn1 at Hetzner.* another place (hel1, nbg1)"),
    "ended": ({"serverType": "cx22"}, None, "cx22 is sold out in nbg1 at Hetzner.* another type (cx23, cx33, cax11)"),
    "not offered there": ({"location": "ash"}, None, "cx23 is sold out in ash at Hetzner"),
    "another architecture": ({"serverType": "cax11"}, {}, "cax11 is arm, and prod-headscale is x86"),
    "a smaller disk": ({}, {"serverType": "cx33", "primaryDiskSize": 80}, "disk of 40 GB, .* one of 80"),
    "a type that ended": ({"serverType": "cx22"}, {}, "cx22 is sold out in nbg1 at Hetzner"),
    "a server without its address": ({}, {"ipv4Address": ""}, "has no ipv4 address at Hetzner"),
    "a server that is off": ({}, {"status": "off"}, "is off: `hcloud server poweron prod-headscale` starts it"),
    "another place": ({"location": "hel1"}, {}, "headscale:location is hel1, and the server prod-headscale is in nbg1"),
}


@pytest.mark.parametrize(("config", "server", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_had_is_refused_before_anything_is_made(
    program: Callable, recorded: dict, config: dict, server: dict | None, words: str
):
    with pytest.raises(Refusal) as error:
        program(server=server, **config)
    assert re.search(re.escape(words).replace(r"\.\*", ".*"), str(error.value)), error.value
    assert [name for name in recorded if name.startswith(("server-", "nixos-", "headscale-"))] == []


def test_a_server_that_there_is_needs_no_stock(program: Callable):
    program(server={"location": "fsn1"}, location="fsn1")
    program(server={"serverType": "cx22"}, serverType="cx22")


COSTS = {
    "a larger type": ({"serverType": "cx33"}, {}, "is shut down, changed from cx23 to cx33 and started again"),
    "another place": ({"location": "hel1", "protect": "false"}, {}, "every device has to join again"),
}


@pytest.mark.parametrize(("config", "server", "words"), COSTS.values(), ids=COSTS)
def test_what_a_change_of_the_server_costs_is_a_warning(
    program: Callable, monkeypatch: pytest.MonkeyPatch, config: dict, server: dict, words: str
):
    assert any(words in warning for warning in warnings_of(monkeypatch, lambda: program(server=server, **config)))
    assert not any(words in warning for warning in warnings_of(monkeypatch, lambda: program(server=server)))


NAMES = {
    "headscaleName": "headscale.example.org",
    "formerHeadscaleNames": [],
    "uiName": "headscale-ui.example.org",
    "baseDomain": "ts.example.org",
}
RENAMED = {
    "lost": (
        {"headscaleName": "vpn.example.org"},
        NAMES,
        "headscale.example.org is no longer served: 3 devices are connected by it",
        "`pulumi config set --path 'headscale:formerHeadscaleNames[0]' headscale.example.org` keeps serving it",
    ),
    "kept": (
        {"headscaleName": "vpn.example.org", "formerHeadscaleNames": ["headscale.example.org"]},
        NAMES,
        "devices join by vpn.example.org from now on",
    ),
    "forgotten": (
        {},
        NAMES | {"formerHeadscaleNames": ["hs.example.org"]},
        "hs.example.org is no longer served: 1 device is connected by it",
    ),
    "the web interface": ({"uiName": "ui.example.org"}, NAMES, "headscale-ui.example.org no longer answers"),
    "MagicDNS": ({"baseDomain": "net.example.org"}, NAMES, "names in ts.example.org no longer resolve"),
}


@pytest.mark.parametrize(("config", "names", "words"), [(c, n, w) for c, n, *w in RENAMED.values()], ids=RENAMED)
def test_what_a_change_of_names_costs_is_a_warning(
    program: Callable, monkeypatch: pytest.MonkeyPatch, config: dict, names: dict, words: list[str]
):
    devices = {"headscale.example.org": 3} | dict.fromkeys(names["formerHeadscaleNames"], 1)
    warnings = warnings_of(monkeypatch, lambda: program(host={"names": names, "devices": devices}, **config))
    assert all(any(text in warning for warning in warnings) for text in words), warnings
    assert warnings_of(monkeypatch, lambda: program(host={"names": NAMES, "devices": {}})) == []


SERVED = hashlib.sha256((PROGRAM / "nix/policy.hujson").read_bytes()).hexdigest()
VERDICTS = {
    "refused, and it is served": (
        (1, "group not defined"),
        SERVED,
        "by now headscale refuses the policy that it serves",
    ),
    "not yet": ((2, "user not found"), "", "names what does not exist yet, so its tests do not run: user not found"),
    "no answer": ((3, "connection refused"), "", "gave no verdict: connection refused"),
    "cut off": ((None, ""), "", "gave no verdict"),
    "taken": ((0, ""), "", None),
    "no answer, and it is served": ((3, ""), SERVED, None),
}


@pytest.mark.parametrize(("verdict", "served", "words"), VERDICTS.values(), ids=VERDICTS)
def test_what_headscale_says_of_the_policy_is_reported(
    program: Callable, monkeypatch: pytest.MonkeyPatch, verdict: tuple, served: str, words: str | None
):
    facts = {"confirmedDigest": "deployed before", "verdict": verdict, "policyDigest": served}
    warnings = warnings_of(monkeypatch, lambda: program(host=facts))
    assert len(warnings) == (words is not None), warnings
    assert all(str(words) in warning for warning in warnings)


def test_another_policy_that_headscale_refuses_is_refused(program: Callable, recorded: dict):
    with pytest.raises(Refusal, match="headscale on the server refuses it: group not defined"):
        program(host={"verdict": (1, "group not defined"), "policyDigest": "another"})
    assert "nixos-deploy" not in recorded


def test_a_name_that_is_kept_keeps_its_records(program: Callable):
    before = {name: values for name, values in program().items() if "proxied" in values}
    after = program(headscaleName="vpn.example.org", formerHeadscaleNames=["headscale.example.org"])
    assert {name: after[name] for name in before} == before
    assert {values["name"] for values in after.values() if "proxied" in values} == {
        *("headscale.example.org", "vpn.example.org", "headscale-ui.example.org"),
    }


def warnings_of(monkeypatch: pytest.MonkeyPatch, run: Callable[[], object]) -> list[str]:
    """The program's warnings, beside SSH that is open to anyone."""
    warnings: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", lambda text, *_: warnings.append(text))
    run()
    return [warning for warning in warnings if "adminNetworks is empty" not in warning]
