"""Mistakes in the configuration stop the run before the engine is asked for anything."""

from collections.abc import Callable

import pytest

from config import ConfigError

BAD = [
    ("domain", "Example.org", "'Example.org' is not a domain name"),
    ("domain", "localhost", "'localhost' is not a domain name"),
    ("uiName", "ui_1.example.org", "'ui_1.example.org' is not a domain name"),
    ("acmeEmail", "me", "'me' is not an e-mail address"),
    ("acmeServer", "http://acme.example.org", "is not an https:// address"),
    ("baseDomain", "example.org", "must not be headscale.example.org or a parent of it"),
    ("baseDomain", "headscale.example.org", "must not be headscale.example.org or a parent of it"),
    ("serverType", "big one", "'big one' is not a server type"),
    ("adminNetworks", ["203.0.113.7/24"], "'203.0.113.7/24'"),
    ("adminNetworks", ["home"], "'home'"),
    ("extraRecords", ["grafana.ts.example.org"], "'grafana.ts.example.org'"),
    ("users", [], "must name at least one user"),
    ("users", ["bob", "bob"], "each once"),
    ("users", ["Bob"], "'Bob' is not a user name"),
    ("preauthKeyExpiration", "a day", "'a day' is not a duration"),
    ("secretsFile", "nix/secrets/none.yaml", "'nix/secrets/none.yaml' is not a file"),
]


@pytest.mark.parametrize(("key", "value", "told"), BAD)
def test_a_mistake_is_told_with_its_key_and_value(program: Callable, key: str, value: object, told: str):
    with pytest.raises(ConfigError) as error:
        program(**{key: value})
    assert f"headscale:{key}: " in str(error.value)
    assert told in str(error.value)


def test_a_mistake_stops_the_run_before_any_resource(program: Callable, recorded: dict):
    with pytest.raises(ConfigError):
        program(users=[])
    assert recorded == {}


def test_several_mistakes_are_told_together(program: Callable):
    with pytest.raises(ConfigError) as error:
        program(acmeEmail="me", users=[])
    assert "headscale:acmeEmail" in str(error.value)
    assert "headscale:users" in str(error.value)
