"""The NixOS configuration: what is wrong is told, and what is built is taken by the real programs."""

import json
import re
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from server_image import (
    HERE,
    NIX,
    ServerImage,
    lay_derp_map,
    packaged_derp_map,
)

HEADSCALE = "headscale.example.org"
MISTAKES = {
    "services.opensh.enable = true;": "services.opensh' does not exist",
    "boot.tmp.cleanOnBot = true;": "boot.tmp.cleanOnBot' does not exist",
    "zramSwap.enable = 1;": "zramSwap.enable' is not of type `boolean'",
    "services.openssh.enabel = true;": "services.openssh.enabel' does not exist",
    'services.nginx.virtualHosts.x.locations."/".proxyPas = "";': "proxyPas' does not exist",
    'networking.firewall.allowedTCPPorts = [ "22" ];': "allowedTCPPorts' is not of type `16 bit unsigned",
    "services.openssh.settings.PermitRootLogin = false;": "PermitRootLogin' is not of type `null or one of",
    'services.headscale.settings.dns.magic_dns = "yes";': "dns.magic_dns' is not of type `boolean'",
    "services.headscale.port = 1;": "services.headscale.port' has conflicting definitions",
    "services.headscale.settings.dns.override_local_dns = lib.mkForce true;": "nameservers.global must be set",
    'sops.secrets.headscale_api_key.owner = "nobody-knows";': "nobody-knows",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_reported_by_its_name(server: ServerImage, mistake: str):
    tree = server.tree(secrets.token_hex(4), f"{{ lib, ... }}: {{ {mistake} }}")
    assert MISTAKES[mistake] in server.failure(tree)


def test_what_modules_add_to_one_text_comes_in_the_order_of_nixpkgs(server: ServerImage):
    """Imported definitions come before those of the importing module, and of two modules the last before the first."""
    tree = server.tree(
        "ordered",
        """{
          imports = [ { services.nginx.commonHttpConfig = "# deeper"; } ];
          services.nginx.commonHttpConfig = "# later";
        }""",
    )
    text = server.evaluate(tree, "services.nginx.commonHttpConfig")
    marks = ("# deeper", "zone=people_connections", "zone=page_connections", "# later")
    assert list(marks) == sorted(marks, key=text.index)


def test_a_base_domain_above_the_server_is_refused(server: ServerImage):
    for name, domain in {"parent": "example.org", "same": HEADSCALE}.items():
        assert "headscale:baseDomain" in server.failure(server.tree(name, baseDomain=domain))


def test_the_bootstrap_system_has_ssh_and_no_application(server: ServerImage, tree: str):
    units = server.build(tree, system="bootstrap") + "/etc/systemd/system"
    names = server.output("ls", units).split()
    assert {"sshd.service", "nftables.service"} <= set(names)
    assert not [name for name in names if re.match(r"(headscale|nginx|acme).*\.service$", name)]
    assert server.evaluate(tree, "boot.initrd.systemd.enable", system="bootstrap") is False
    assert server.evaluate(tree, "boot.initrd.systemd.enable") is True


def test_stage_1_of_the_bootstrap_system_finishes_what_a_power_cut_ended(server: ServerImage, tree: str):
    commands = server.evaluate(tree, "boot.initrd.postMountCommands", system="bootstrap")
    assert commands == (NIX / "finish-lustration.sh").read_text()
    # nixpkgs would take it for a place of its own in the script that it puts the commands into.
    assert not re.search(r"@\w+@", commands)


def test_both_systems_have_the_same_kernel_parameters(server: ServerImage, tree: str):
    bootstrap = set(server.evaluate(tree, "boot.kernelParams", system="bootstrap"))
    # NixOS's own modules name some of them once more.
    assert set(server.evaluate(tree, "boot.kernelParams")) == bootstrap
    assert {"apparmor=1", "audit=1"} <= bootstrap
    lsm = [server.evaluate(tree, "security.lsm", system=system) for system in ("bootstrap", "headscale")]
    assert set(lsm[0]) == set(lsm[1])


def test_headscale_takes_its_configuration(server: ServerImage, tree: str, system: str):
    prepare_headscale(server, system)
    config = server.evaluate(tree, "systemd.services.headscale.script").split(" --config ")[1]
    process = server.run("headscale", "configtest", "--config", config)
    assert process.returncode == 0, process.stderr
    assert "deprecated" not in process.stdout + process.stderr


def test_headscale_refuses_a_key_that_was_renamed(server: ServerImage, system: str):
    prepare_headscale(server, system)
    server.put("/old.yaml", json.dumps({"server_url": "https://x", "ip_prefixes": ["100.64.0.0/10"]}))
    assert server.run("headscale", "configtest", "--config", "/old.yaml").returncode != 0


def prepare_headscale(server: ServerImage, system: str) -> None:
    server.output("mkdir", "-p", "/run/secrets", "/run/headscale", "/etc/headscale", "/var/lib/headscale")
    server.output("cp", "--remove-destination", f"{system}/etc/headscale/policy.hujson", "/etc/headscale/policy.hujson")
    lay_derp_map()


def test_headscale_starts_only_with_its_noise_key(server: ServerImage, system: str):
    unit = server.unit(system, "headscale.service").splitlines()
    assert "AssertFileNotEmpty=/run/secrets/headscale_noise_private_key" in unit


def test_another_policy_is_a_reload(server: ServerImage, system: str):
    other = server.tree("policy")
    server.put(f"{other}/policy.hujson", '{"acls": []}\n')
    units = [server.unit(s, "headscale.service") for s in (system, server.build(other))]
    parsed = [unit.splitlines() for unit in units]
    (former,), (later,) = ([line for line in lines if line.startswith("X-Reload-Triggers=")] for lines in parsed)
    assert former != later
    assert units[0].replace(former, later) == units[1]


def test_another_name_of_the_web_interface_does_not_change_nginx(server: ServerImage, system: str):
    """A changed unit is restarted, which cuts every device's connection."""
    other = server.build(server.tree("ui-name", uiName="admin.example.org"))
    assert server.unit(other, "nginx.service") == server.unit(system, "nginx.service")
    assert server.unit(other, "nginx-config-reload.service") != server.unit(system, "nginx-config-reload.service")
    assert "acme-admin.example.org.service" in server.output("ls", f"{other}/etc/systemd/system/nginx.service.wants")


def test_an_order_waits_until_nginx_can_answer_for_it(server: ServerImage, system: str):
    lines = server.unit(system, "acme-order-renew-headscale.example.org.service").splitlines()
    assert {"After=nginx.service", "After=nginx-config-reload.service"} <= set(lines)
    nginx = server.unit(system, "nginx.service").splitlines()
    assert any(line.startswith("ExecStartPost=") and line.endswith("/nginx-workers started") for line in nginx)
    reload = [line.split("/")[-1] for line in nginx if line.startswith("ExecReload=")]
    assert reload == ["nginx-workers remember", "nginx.conf -t", "kill -HUP $MAINPID", "nginx-workers renewed"]


def test_every_program_that_a_unit_names_exists(server: ServerImage, system: str):
    units = server.output("sh", "-euc", f"cat {system}/etc/systemd/system/*.service")
    named = set(re.findall(r"^Exec\w+=\+?(/\S+)", units, re.MULTILINE))
    assert any(program.endswith("/bin/kill") for program in named)
    server.output("ls", *named)


def test_the_packaged_derp_map_is_what_headscale_reads(server: ServerImage):
    regions = yaml.safe_load(packaged_derp_map())["regions"]
    assert len(regions) > 10
    for number, region in regions.items():
        assert region["regionid"] == number
        assert all(node["hostname"] and node["ipv4"] for node in region["nodes"])


@pytest.mark.parametrize(
    "planted",
    [
        "<style>p {}</style>",
        '<p onclick="x()">',
        "<script>x()</script>",
        '<script src="https://example.com/x.js"></script>',
        "<base href='/elsewhere/'>",
    ],
)
def test_what_the_policy_would_block_fails_the_build(tmp_path: Path, planted: str):
    page = (NIX.parent / "rehearsal/nixpkgs/pkgs/headscale-ui/web/index.html").read_text()
    program = [sys.executable, str(NIX / "packages/content-security-policy.py"), str(tmp_path)]
    (tmp_path / "index.html").write_text(page)
    assert subprocess.run(program, capture_output=True).returncode == 0
    (tmp_path / "index.html").write_text(page.replace("<body>", f"<body>{planted}"))
    assert subprocess.run(program, capture_output=True).returncode != 0


def test_a_key_is_registered_and_the_former_one_expired(server: ServerImage, tree: str, system: str):
    prepare_headscale(server, system)
    config: dict[str, Any] = server.evaluate(tree, "services.headscale.settings")
    noise = {"private_key_path": "/var/lib/headscale/noise_private.key"}
    server.put("/etc/headscale/config.yaml", json.dumps(config | {"noise": noise}))
    keys = [f"hskey-api-{secrets.token_urlsafe(9)}-{secrets.token_urlsafe(48)}" for _ in range(2)]
    unit = server.unit(system, "headscale-api-key.service")
    register = re.search(r"ExecStart=(\S+)", unit)
    assert register is not None
    server.put("/walk.sh", (HERE / "api_key_walk.sh").read_text())
    walked = server.output("bash", "/walk.sh", register[1], stdin="\n".join([*keys, keys[1]]) + "\n")
    assert [line.split() for line in walked.splitlines()] == [
        ["200", "401", "401"],
        ["401", "200", "200"],
        ["401", "200", "200"],
    ]


def test_the_sample_secrets_are_encrypted_and_complete():
    sample = yaml.safe_load((NIX / "secrets/sample.yaml").read_text())
    for name in ("headscale_noise_private_key", "headscale_api_key"):
        assert sample[name].startswith("ENC[")
