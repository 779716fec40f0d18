"""The flake as a whole: its outputs evaluate alone, for both architectures, the test of virtual machines included."""

import json
from collections.abc import Mapping
from typing import Any

from server_image import ServerImage, sample_tree

SYSTEMS = ("aarch64-linux", "x86_64-linux")


def kinds(shown: Mapping[str, Any]) -> Any:
    return shown["type"] if "type" in shown else {name: kinds(inner) for name, inner in shown.items()}


def test_its_outputs_are_packages_checks_and_two_systems(server: ServerImage):
    shown = server.output("nix", "flake", "show", "--json", "--all-systems", f"path:{sample_tree()}")
    assert kinds(json.loads(shown)) == {
        "checks": {system: {"devices-join": "derivation"} for system in SYSTEMS},
        "nixosConfigurations": {name: "nixos-configuration" for name in ("bootstrap", "headscale")},
        "packages": {system: {name: "derivation" for name in ("headscale", "headscale-ui")} for system in SYSTEMS},
    }


def test_everything_evaluates(server: ServerImage):
    server.output("nix", "flake", "check", "--no-build", "--all-systems", f"path:{sample_tree()}")


def test_the_system_is_that_of_the_deployment(server: ServerImage):
    tree = server.tree("arm", system="aarch64-linux")
    assert server.evaluate(tree, "system.build.toplevel.system") == "aarch64-linux"


def test_an_option_that_the_check_misspells_is_told(server: ServerImage):
    tree = server.tree("misspelt-check")
    check = server.disk / f"upper{tree}/checks/devices-join.nix"
    check.write_text(check.read_text().replace("services.tailscale.enable", "services.tailscale.enabel"))
    done = server.run("nix", "flake", "check", "--no-build", f"path:{tree}")
    assert "services.tailscale.enabel' does not exist" in done.stderr


def test_the_secrets_of_the_check_can_be_opened(server: ServerImage):
    """What its script makes is opened by the key that it made, and holds every secret that the server wants."""
    secrets = [f"secrets.{name}" for name in server.evaluate(sample_tree(), "sops.secrets")]
    script = (
        f"cd $(mktemp -d); out=$PWD/out; . {sample_tree()}/checks/secrets.sh; "
        "SOPS_AGE_KEY_FILE=$out/key.txt sops decrypt --output-type json $out/secrets.yaml"
    )
    opened = json.loads(server.output("bash", "-euc", script))
    assert {f"secrets.{name}" for name in opened} == set(secrets)
    assert opened["headscale_api_key"].startswith("hskey-api-")
