"""The options of the small nixpkgs are nixpkgs' own: same paths, same types. It refuses every other one that nix/ sets.

nixos-options.json holds options of nixos-26.05 and of the pinned sops-nix with their types in nixpkgs' words, as the
modules' sources declare them: `<name>` is any name of a set, `*` any place of a list. Add what is missing from there.
"""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import pytest
from server_image import HERE, ServerImage, sample_tree, server_image

REAL: dict[str, str] = json.loads((HERE / "nixos-options.json").read_text())
DECLARED = "(import /usr/lib/rehearsal/nixpkgs/lib).declared [ ]"
OPEN = "open submodule"


@cache
def declared() -> dict[str, str]:
    options = f"path:{sample_tree()}#nixosConfigurations.headscale.options"
    listed = server_image().output("nix", "eval", "--impure", "--json", options, "--apply", DECLARED)
    return {option["path"]: option["type"] for option in json.loads(listed)}


def shown(type_: str) -> str:
    """What else an open submodule may hold is said in several ways, and checked by the program that reads it."""
    return OPEN if type_.startswith(OPEN) else type_


def leaves(value: Any, path: str) -> Iterator[str]:
    yield path
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from leaves(inner, f"{path}.{name}")


def test_every_option_is_one_of_nixpkgs():
    assert sorted(set(declared()) - set(REAL)) == []


def test_every_option_has_nixpkgs_type():
    both = set(declared()) & set(REAL)
    assert len(both) > 200
    wrong = {path: (declared()[path], REAL[path]) for path in both if declared()[path] != shown(REAL[path])}
    assert wrong == {}, "as declared here, as in nixpkgs"


@pytest.mark.parametrize("system", ["bootstrap", "headscale"])
def test_what_nixpkgs_types_is_not_free(system: str):
    """A set that takes any key would take a wrong value for a key that nixpkgs knows."""
    image: ServerImage = server_image()
    free = [path for path, type_ in declared().items() if type_ == OPEN and "<" not in path and path != "system.build"]
    assert "services.openssh.settings" in free
    values = {path: image.evaluate(sample_tree(), path, system) for path in free}
    given = {leaf for path, value in values.items() for leaf in leaves(value, path)}
    assert sorted(given & set(REAL) - set(declared())) == []


def test_the_list_is_sorted():
    assert list(REAL) == sorted(REAL)
