"""Confinement of the host's services, audit and former generations, as the real programs judge them."""

import json
import re
import secrets
from pathlib import Path

import pytest
from apparmor import Profile, bring_strace, traced, uses
from server_image import HERE, ServerImage, lay_derp_map

HEADSCALE, UI = "headscale.example.org", "headscale-ui.example.org"
# Where NixOS has what Debian's programs find in /usr; the rehearsal's packages are links to these.
ON_NIXOS = {
    "/usr/bin/bash": "/nix/store/0-bash-interactive-5.3/bin/bash",
    "/usr/bin/kill": "/nix/store/0-coreutils-9.8/bin/coreutils",
    "/usr/bin/sleep": "/nix/store/0-coreutils-9.8/bin/coreutils",
    "/usr/sbin/nginx": "/nix/store/0-nginx-1.30.1/bin/nginx",
    "/usr/lib/rehearsal/bin/headscale": "/nix/store/0-headscale-0.29.3/bin/headscale",
}
# What a host has before the first deploy loads the rules; a rule for what is missing stops all that follow it.
THERE = {"/boot", "/etc", "/etc/nixos", "/etc/ssh", "/nix/var/nix/profiles", "/var/lib/sops-nix"}
# What `systemd-analyze security` says: 0 is a service that can do nothing, 10 one that may do anything.
EXPOSURE = {"deployment-undo": 1.5, "derp-map": 1.2, "headscale": 1.3, "headscale-api-key": 0.9, "nginx": 1.6}


def profile(server: ServerImage, system: str, name: str) -> Profile:
    """The profile as it is compiled for a kernel with all that its abi names; nothing is loaded."""
    parser = ["apparmor_parser", "--config-file", f"{system}/etc/apparmor/parser.conf", "--skip-kernel-load"]
    features = ["--features-file", "/etc/apparmor.d/abi/4.0", "--dump", "rule-exprs"]
    process = server.run(*parser, *features, f"{system}/etc/apparmor.d/{name}")
    assert process.returncode == 0, process.stderr
    return Profile(process.stderr)


@pytest.mark.parametrize("name", ["headscale", "nginx"])
def test_the_terminal_that_a_shell_asks_for_leaves_no_record(server: ServerImage, system: str, name: str):
    assert profile(server, system, name).silenced == {"/dev/tty"}


def resolved(server: ServerImage, path: str) -> str:
    return server.output("readlink", "-f", path).strip()


def commands(unit: str, setting: str) -> list[str]:
    return re.findall(rf"^{setting}=(.*)$", unit, re.MULTILINE)


def violations(server: ServerImage, system: str, name: str, port: int, *asks: list[str]) -> set[tuple[str, str]]:
    """The actions of the unit's processes at start, reload, requests and stop, and its profile does not allow."""
    unit = server.unit(system, f"{name}.service")
    assert f"AppArmorProfile={name}" in unit.splitlines()
    log = server.disk / f"upper/trace-{secrets.token_hex(4)}"
    log.mkdir()
    walk = {
        "trace": [*bring_strace(server), f"/{log.name}/thread"],
        "before": commands(unit, "ExecStartPre"),
        "start": commands(unit, "ExecStart")[0],
        "after": commands(unit, "ExecStartPost"),
        "reload": commands(unit, "ExecReload"),
        "port": port,
        "asks": asks,
        "environment": {"RUNTIME_DIRECTORY": f"/run/{name}"},
    }
    server.put("/walk.py", (HERE / "confined_walk.py").read_text())
    server.output("python3", "/walk.py", stdin=json.dumps(walk))
    matches = {(resolved(server, path) if right == "x" else path, right) for path, right in set(uses(traced(log)))}
    assert len(matches) > 20, matches
    allowed = profile(server, system, name)
    matches = {(ON_NIXOS.get(path, path), right) for path, right in matches}
    return {(path, right) for path, right in matches if not allowed.allows(path, right)}


def test_headscale_needs_nothing_that_its_profile_forbids(server: ServerImage, system: str):
    prepare = "mkdir -p /run/secrets.d/1 /run/headscale /etc/headscale /var/lib/headscale; rm -rf /run/secrets"
    links = "ln -sfn /run/secrets.d/1 /run/secrets; ln -sf $0/etc/headscale/* /etc/headscale/"
    key = "printf %s $(headscale generate private-key) > /run/secrets/headscale_noise_private_key"
    server.output("bash", "-euc", f"{prepare}; {links}; {key}", system)
    lay_derp_map()
    asks = [["headscale", "users", "create", "a"], ["headscale", "preauthkeys", "create", "--user", "1"]]
    assert violations(server, system, "headscale", 8085, *asks) == set()


def test_nginx_needs_nothing_that_its_profile_forbids(server: ServerImage, system: str):
    server.output("mkdir", "-p", "/run/nginx", "/var/cache/nginx", "/var/log/nginx", "/etc/nginx")
    server.output("ln", "-sf", f"{system}/etc/nginx/nginx.conf", "/etc/nginx/nginx.conf")
    for name in (HEADSCALE, UI):
        (script,) = commands(server.unit(system, f"acme-{name}.service"), "ExecStart")
        directory = f"/var/lib/acme/{name}"
        server.output("mkdir", "-p", directory)
        server.output("env", f"DOMAIN={name}", f"DIRECTORY={directory}", script)
    challenge = ".well-known/acme-challenge/token"
    server.put(f"/var/lib/acme/acme-challenge/{challenge}", "answer")
    curl = ["curl", "--silent", "--insecure", "--connect-to", "::127.0.0.1:"]
    urls = [f"https://{UI}/web/", f"https://{HEADSCALE}/health", f"http://{UI}/{challenge}"]
    assert violations(server, system, "nginx", 443, *([*curl, url] for url in urls)) == set()


@pytest.fixture(scope="module")
def rules(server: ServerImage, system: str) -> str:
    (start,) = commands(server.unit(system, "audit-rules-nixos.service"), "ExecStart")
    return server.read(start.split()[-1])


def test_auditctl_takes_every_rule(server: ServerImage, rules: str):
    """The real auditctl reads the rules in a PID namespace of its own, whose requests the kernel refuses one by one."""
    server.output("sh", "-euc", "id headscale 2>/dev/null || useradd --system headscale")
    sent = re.findall(r"^-a .*$", rules, re.MULTILINE)
    assert len(sent) > 5
    # With -i first, auditctl continues after a rule that is refused.
    server.put("/audit.rules", f"-i\n{rules}")
    output = server.run("auditctl", "-R", "/audit.rules").stderr.splitlines()
    answers = [line for line in output if not line.startswith("There was an error in line")]
    assert answers.count("Error sending add rule data request (Operation not permitted)") == len(sent), answers
    assert all(line.endswith("(Operation not permitted)") for line in answers), answers


def test_what_must_be_watched_is_there_from_the_start(rules: str):
    must, may = rules.split("\n-i\n")
    directories = {*re.findall(r"-F dir=(\S+)", must), *(re.findall(r"-F path=(\S+)/", must))}
    assert directories <= THERE
    assert re.findall(r"^-a .*-F (?:dir|path)=(\S+)", may, re.MULTILINE) == ["/var/lib/headscale"]


def test_auditd_takes_its_configuration_and_rotates_its_log(server: ServerImage, system: str):
    # auditd follows no link.
    server.output("sh", "-euc", "mkdir -p /audit; cp $0/etc/audit/auditd.conf /audit/", system)
    output = server.run("auditd", "-f", "-c", "/audit", "-s", "nochange").stderr
    # The last word of a daemon whose configuration is right and whom the kernel refuses, as it does here.
    assert "Error setting audit daemon pid (Operation not permitted)" in output, output
    assert "max_log_size_action_parser called with: ROTATE" in output, output


@pytest.mark.parametrize("name", EXPOSURE)
def test_a_service_is_exposed_no_more_than_it_was(server: ServerImage, system: str, name: str):
    unit = f"{system}/etc/systemd/system/{name}.service"
    output = server.output("systemd-analyze", "security", "--offline=true", "--no-pager", unit)
    level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", output)
    assert level is not None, output
    assert float(level[1]) <= EXPOSURE[name], output


def test_garbage_collection_leaves_ten_generations_however_old(server: ServerImage, tmp_path: Path):
    """On a disk of its own, since the real collector deletes whatever no generation holds."""
    host = ServerImage(server.layers, tmp_path)
    system = host.build(host.tree("collected"))
    host.put("/generations.sh", (HERE / "generations.sh").read_text())
    stored = host.output("bash", "-eu", "/generations.sh", system).split()
    unit = host.unit(system, "nix-gc.service")
    for command in [*commands(unit, "ExecStartPre"), *commands(unit, "ExecStart")]:
        host.output(*command.split())
    left = host.output("sh", "-c", "cd /nix/var/nix/profiles && ls -d system-*-link").split()
    assert left == sorted(f"system-{number}-link" for number in range(5, 15))
    still = host.output("sh", "-c", "for path; do [ ! -e $path ] || echo $path; done", "sh", *stored).split()
    assert still == stored[4:]
