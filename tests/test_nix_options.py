"""Everything that nix/ uses of nixpkgs exists: options by path and type, functions and packages by name.

The small nixpkgs refuses any option that it does not declare, so it is enough that what it declares is nixpkgs' own.
nixpkgs-names.json says in which file of nixpkgs a name was found. nixos-options.json holds options of nixos-26.05 and
of the pinned sops-nix, their types in nixpkgs' words, as the modules' sources declare them: `<name>` is any name of a
set, `*` any place of a list. What is missing there is added from the module's source.
"""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import pytest
from server_image import HERE, NIX, ServerImage, sample_tree, server_image

REAL: dict[str, str] = json.loads((HERE / "nixos-options.json").read_text())
NAMES: dict[str, dict[str, str]] = json.loads((HERE / "nixpkgs-names.json").read_text())
SMALL = NIX.parent / "rehearsal/nixpkgs"
# What the small nixpkgs has for its own modules.
OWN = {"build", "lib", "script", "standardTools", "system", "unitScript"}
PLACE = "/usr/lib/rehearsal/nixpkgs"
DECLARED = f"let lib = import {PLACE}/lib; in lib.declared [ ]"
OPEN = "open submodule"


@cache
def declared() -> dict[str, str]:
    options = f"path:{sample_tree()}#nixosConfigurations.headscale.options"
    listed = server_image().output("nix", "eval", "--impure", "--json", options, "--apply", DECLARED)
    return {option["path"]: option["type"] for option in json.loads(listed)}


def comparable(type_: str) -> str:
    """The type without an open submodule's other values, which the program checks that reads them."""
    return OPEN if type_.startswith(OPEN) else type_


def leaves(value: Any, path: str) -> Iterator[str]:
    yield path
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from leaves(inner, f"{path}.{name}")


def test_every_option_is_one_of_nixpkgs(server: ServerImage):
    assert sorted(set(declared()) - set(REAL)) == []


def test_every_option_has_nixpkgs_type(server: ServerImage):
    both = set(declared()) & set(REAL)
    assert len(both) > 200
    wrong = {path: (declared()[path], REAL[path]) for path in both if declared()[path] != comparable(REAL[path])}
    assert wrong == {}, "as declared here, as in nixpkgs"


@pytest.mark.parametrize("system", ["bootstrap", "headscale"])
def test_what_nixpkgs_types_is_not_free(server: ServerImage, system: str):
    """A set that takes any key would take a wrong value for a key that nixpkgs knows."""
    free = [path for path, type_ in declared().items() if type_ == OPEN and "<" not in path and path != "system.build"]
    assert "services.openssh.settings" in free
    values = {path: server.evaluate(sample_tree(), path, system) for path in free}
    settings = {leaf for path, value in values.items() for leaf in leaves(value, path)}
    assert sorted(settings & set(REAL) - set(declared())) == []


def test_the_list_is_sorted():
    assert list(REAL) == sorted(REAL)


def test_every_function_of_lib_is_one_of_nixpkgs():
    text = "\n".join(file.read_text() for file in NIX.rglob("*.nix"))
    used = set(re.findall(r"\blib\.([\w']+)", text))
    assert "importJSON" in used
    assert sorted(used - set(NAMES["lib"])) == []


def test_every_package_is_one_of_nixpkgs(server: ServerImage):
    packages = f"path:{PLACE}#legacyPackages.x86_64-linux"
    names = json.loads(server.output("nix", "eval", "--json", packages, "--apply", "builtins.attrNames"))
    assert sorted(set(names) - set(NAMES["pkgs"]) - OWN) == []


def test_the_small_lib_has_no_function_that_nothing_uses(server: ServerImage):
    expression = f"builtins.attrNames (import {PLACE}/lib)"
    names = json.loads(server.output("nix", "eval", "--impure", "--json", "--expr", expression))
    files = [
        *NIX.rglob("*.nix"),
        *SMALL.rglob("*.nix"),
        *(SMALL.parent / "sops-nix").rglob("*.nix"),
        HERE / "test_nix.py",
    ]
    text = "\n".join(file.read_text() for file in files)
    inherited = set(" ".join(re.findall(r"inherit \(lib\)([^;]+);", text)).split())
    used = inherited | set(re.findall(r"\blib\.([\w']+)", text + DECLARED))
    assert sorted(set(names) - used) == []
