"""The flake as a whole: its outputs evaluate alone, for both architectures, the test of virtual machines included."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from server_image import HERE, NIX, ServerImage, sample_tree

METADATA = ("flake", "metadata", "--json", "--offline", "--no-update-lock-file", "--option", "build-users-group", "")
SYSTEMS = ("aarch64-linux", "x86_64-linux")


def kinds(tree: Mapping[str, Any]) -> Any:
    return tree["type"] if "type" in tree else {name: kinds(inner) for name, inner in tree.items()}


def test_its_outputs_are_packages_checks_and_two_systems(server: ServerImage):
    output = server.output("nix", "flake", "show", "--json", "--all-systems", f"path:{sample_tree()}")
    assert kinds(json.loads(output)) == {
        "checks": {system: {"devices-join": "derivation"} for system in SYSTEMS},
        "nixosConfigurations": {name: "nixos-configuration" for name in ("bootstrap", "headscale")},
        "packages": {system: {name: "derivation" for name in ("headscale", "headscale-ui")} for system in SYSTEMS},
    }


def test_everything_evaluates(server: ServerImage):
    server.output("nix", "flake", "check", "--no-build", "--all-systems", f"path:{sample_tree()}")


def test_the_lock_has_what_the_flake_names(server: ServerImage):
    """Otherwise a server would look for newer inputs by itself, or refuse to build."""
    lock = json.loads((NIX / "flake.lock").read_text())["nodes"]
    output = server.output("/usr/lib/rehearsal/libexec/nix", *METADATA, f"path:{sample_tree()}")
    assert json.loads(output)["locks"]["nodes"] == lock


@pytest.mark.parametrize(
    ("versions", "chosen"),
    [
        ("0.28.0 {}", "compiled {}"),
        ("{} 0.31.0", "compiled {}"),
        ("0.28.0 0.31.0", "own {}"),
    ],
)
def test_headscale_is_compiled_only_where_no_nixpkgs_has_the_pinned_version(
    server: ServerImage, tree: str, versions: str, chosen: str
):
    pinned = json.loads((NIX / "packages/pins.json").read_text())["headscale"]["version"]
    server.put("/chosen-headscale.nix", (HERE / "chosen_headscale.nix").read_text())
    arguments = ["--arg", "tree", tree, "--argstr", "versions", versions.format(pinned)]
    taken = server.output("nix", "eval", "--impure", "--raw", "--file", "/chosen-headscale.nix", *arguments, "taken")
    assert taken == chosen.format(pinned)


def test_the_system_is_that_of_the_deployment(server: ServerImage):
    tree = server.tree("arm", system="aarch64-linux")
    assert server.evaluate(tree, "system.build.toplevel.system") == "aarch64-linux"


def test_an_option_that_the_check_misspells_is_reported(server: ServerImage):
    tree = server.tree("misspelt-check")
    check = server.disk / f"upper{tree}/checks/devices-join.nix"
    check.write_text(check.read_text().replace("services.tailscale.enable", "services.tailscale.enabel"))
    process = server.run("nix", "flake", "check", "--no-build", f"path:{tree}")
    assert "services.tailscale.enabel' does not exist" in process.stderr


def test_the_secrets_of_the_check_can_be_opened(server: ServerImage):
    """The key that its script makes opens the file that it makes, which holds every secret of the server."""
    secrets = [f"secrets.{name}" for name in server.evaluate(sample_tree(), "sops.secrets")]
    script = (
        f"cd $(mktemp -d); out=$PWD/out; . {sample_tree()}/checks/secrets.sh; "
        "SOPS_AGE_KEY_FILE=$out/key.txt sops decrypt --output-type json $out/secrets.yaml"
    )
    opened = json.loads(server.output("bash", "-euc", script))
    assert {f"secrets.{name}" for name in opened} == set(secrets)
    assert opened["headscale_api_key"].startswith("hskey-api-")
