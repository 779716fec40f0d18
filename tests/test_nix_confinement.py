"""What confines the host's services, watches it and keeps it able to go back, as far as the real programs can judge it."""

import json
import re
import secrets

import pytest
from apparmor import Profile, bring_strace, traced, uses
from server_image import HERE, ServerImage, sample_system, sample_tree, server_image

HEADSCALE, UI = "headscale.example.org", "headscale-ui.example.org"
# Where NixOS has what Debian's programs find in /usr; the rehearsal's packages are links to these.
ON_NIXOS = {
    "/usr/bin/bash": "/nix/store/0-bash-interactive-5.3/bin/bash",
    "/usr/bin/kill": "/nix/store/0-coreutils-9.8/bin/coreutils",
    "/usr/sbin/nginx": "/nix/store/0-nginx-1.30.1/bin/nginx",
    "/usr/lib/rehearsal/bin/headscale": "/nix/store/0-headscale-0.29.3/bin/headscale",
}


@pytest.fixture(scope="module")
def server() -> ServerImage:
    return server_image()


@pytest.fixture(scope="module")
def system(server: ServerImage) -> str:
    return sample_system()


# -- AppArmor ---------------------------------------------------------------------------------------------------------


def profile(server: ServerImage, system: str, name: str) -> Profile:
    """The profile as it is compiled for a kernel with all that its abi names; nothing is loaded."""
    parser = ["apparmor_parser", "--config-file", f"{system}/etc/apparmor/parser.conf", "--skip-kernel-load"]
    features = ["--features-file", "/etc/apparmor.d/abi/4.0", "--dump", "rule-exprs"]
    done = server.run(*parser, *features, f"{system}/etc/apparmor.d/{name}")
    assert done.returncode == 0, done.stderr
    return Profile(done.stderr)


def resolved(server: ServerImage, path: str) -> str:
    return server.output("readlink", "-f", path).strip()


def commands(unit: str, setting: str) -> list[str]:
    return re.findall(rf"^{setting}=(.*)$", unit, re.MULTILINE)


def violations(server: ServerImage, system: str, name: str, port: int, *asks: list[str]) -> set[tuple[str, str]]:
    """What the unit's processes did at start, reload, requests and stop, and its profile does not allow."""
    unit = server.unit(system, f"{name}.service")
    assert f"AppArmorProfile={name}" in unit.splitlines()
    log = server.disk / f"upper/trace-{secrets.token_hex(4)}"
    log.mkdir()
    walk = {
        "trace": [*bring_strace(server), f"/{log.name}/thread"],
        "before": commands(unit, "ExecStartPre"),
        "start": commands(unit, "ExecStart")[0],
        "reload": commands(unit, "ExecReload"),
        "port": port,
        "asks": asks,
    }
    server.put("/walk.py", (HERE / "confined_walk.py").read_text())
    server.output("python3", "/walk.py", stdin=json.dumps(walk))
    found = {(resolved(server, path) if right == "x" else path, right) for path, right in set(uses(traced(log)))}
    assert len(found) > 20, found
    allowed = profile(server, system, name)
    found = {(ON_NIXOS.get(path, path), right) for path, right in found}
    return {(path, right) for path, right in found if not allowed.allows(path, right)}


def test_headscale_needs_nothing_that_its_profile_forbids(server: ServerImage, system: str):
    prepare = "mkdir -p /run/secrets.d/1 /run/headscale /etc/headscale /var/lib/headscale; rm -rf /run/secrets"
    links = "ln -sfn /run/secrets.d/1 /run/secrets; ln -sf $0/etc/headscale/* /etc/headscale/"
    key = "printf %s $(headscale generate private-key) > /run/secrets/headscale_noise_private_key"
    server.output("bash", "-euc", f"{prepare}; {links}; {key}", system)
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


# -- audit ------------------------------------------------------------------------------------------------------------


def test_auditctl_takes_every_rule(server: ServerImage, system: str):
    """The real auditctl reads the rules in a namespace of its own, where the kernel refuses each rule that it is sent."""
    user = server.evaluate(sample_tree(), "services.headscale.user")
    server.output("sh", "-euc", f"id {user} 2>/dev/null || useradd --system {user}")
    (start,) = commands(server.unit(system, "audit-rules-nixos.service"), "ExecStart")
    rules = server.read(start.split()[-1])
    sent = re.findall(r"^-a .*$", rules, re.MULTILINE)
    assert len(sent) > 5
    # With -i first, auditctl goes on after what is refused.
    server.put("/audit.rules", f"-i\n{rules}")
    said = server.run("auditctl", "-R", "/audit.rules").stderr.splitlines()
    answers = [line for line in said if not line.startswith("There was an error in line")]
    refused = "Error sending add rule data request (Operation not permitted)"
    assert answers.count(refused) == len(sent), "\n".join(said)
    assert not [line for line in answers if "(Operation not permitted)" not in line], "\n".join(said)


def test_what_is_watched_is_what_the_host_has(server: ServerImage, system: str):
    """A rule for a path below a directory that is missing stops all that follow it; only headscale's may be."""
    (start,) = commands(server.unit(system, "audit-rules-nixos.service"), "ExecStart")
    strict, lenient = server.read(start.split()[-1]).split("\n-i\n")
    assert re.findall(r"-F dir=(\S+)", strict) == WRITTEN_BEFORE_THE_FIRST_DEPLOY
    assert [line for line in lenient.splitlines() if line.startswith("-a") and "dir=/var/lib/headscale " not in line] == []


def test_auditd_takes_its_configuration_and_limits_its_log(server: ServerImage, system: str):
    # auditd wants a file of its own, not a link.
    server.output("sh", "-euc", f"mkdir -p /audit && cp {system}/etc/audit/auditd.conf /audit/")
    said = server.run("auditd", "-f", "-c", "/audit", "-s", "nochange").stderr
    assert "max_log_file_action" in said, said
