"""The stand-in world alone, without the program: every test runs in a capsule of its own.

A test marked `in_world` is called inside, by this file started as a program; outside, pytest only judges how it ended.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from rehearsal.emulators.hetzner import FirewallRule, ServerSpec
from rehearsal.internet import acme, dns, network
from rehearsal.people import devices
from rehearsal.sandbox import capsule, cgroups
from rehearsal.sandbox.processes import check, daemon
from rehearsal.sandbox.wait import eventually
from rehearsal.server import machines
from rehearsal.setup import image, programs

pytestmark = pytest.mark.usefixtures("world")
HERE = str(Path(__file__))
HOST_KEY, LOGIN_KEY = "host", "login"
BOOT_ID = ["cat", "/proc/sys/kernel/random/boot_id"]
SSH_FROM_OPERATOR = FirewallRule("in", "tcp", "22", ("198.51.100.10/32", "2001:db8:1::10/128"))


@dataclass(frozen=True)
class SmallWorld:
    run: capsule.Run
    names: dns.Resolver
    acme: acme.Acme
    machines: machines.Machines

    def device(self, name: str, number: int, nat: str):
        built = programs.build(print)
        bundle = self.acme.bundle
        return devices.device(name, number=number, run=self.run, programs=built, ca_bundle=bundle, nat=nat)


@dataclass(frozen=True)
class DnsAnswer:
    name: str
    type: str
    content: str
    proxied: bool = False


@contextmanager
def world() -> Iterator[SmallWorld]:
    run = capsule.enter()
    base = image.base(print)
    with ExitStack() as end:
        end.enter_context(network.internet())
        resolver, authority = end.enter_context(dns.names(run)), end.enter_context(acme.acme(run))
        running = machines.Machines(run=run, image=[base], ca_bundle=authority.bundle)
        yield SmallWorld(run, resolver, authority, end.enter_context(running))


def in_world(test: Callable[[SmallWorld], None]) -> Callable[[], None]:
    def outside() -> None:
        image.base(print)
        programs.build(print)
        process = started(test.__name__).wait(timeout=120)
        assert process == 0

    outside.__name__, outside.__doc__ = test.__name__, test.__doc__
    outside.inside = test  # type: ignore[attr-defined]
    return outside


def started(name: str, environment: Mapping[str, str] | None = None, **more: Any) -> subprocess.Popen[str]:
    settings = {**os.environ, **(environment or {}), "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.Popen([sys.executable, HERE, name], env=settings, text=True, stdin=subprocess.DEVNULL, **more)


def ssh_banner(address: str) -> bool:
    with socket.create_connection((address, 22), timeout=0.5) as connection:
        return connection.recv(4) == b"SSH-"


def tcp_opens(address: str) -> bool:
    try:
        socket.create_connection((address, 22), timeout=0.5).close()
    except TimeoutError:
        return False
    return True


def key(run: capsule.Run, name: str) -> Path:
    path = run.directory("keys") / name
    if not path.exists():
        check(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)])
    return path


def spec(run: capsule.Run, number: int = 10) -> ServerSpec:
    host = key(run, HOST_KEY)
    keys = {"ed25519_private": host.read_text(), "ed25519_public": host.with_suffix(".pub").read_text()}
    return ServerSpec(
        id=number,
        name=f"server-{number}",
        image="debian-13",
        server_type="cx23",
        location="nbg1",
        ipv4=f"203.0.113.{number}",
        ipv6=f"2001:db8:{number}::/64",
        user_data="#cloud-config\n" + json.dumps({"ssh_deletekeys": True, "ssh_keys": keys}),
        ssh_keys=(key(run, LOGIN_KEY).with_suffix(".pub").read_text().strip(),),
        labels={},
    )


def boot(world: SmallWorld, number: int = 10) -> int:
    world.machines.create(spec(world.run, number))
    answers(f"203.0.113.{number}")
    return number


def answers(address: str) -> None:
    eventually(lambda: ssh_banner(address), f"{address} to answer on port 22", timeout=30)


def look(world: SmallWorld, number: int, *argv: str) -> str:
    process = world.machines.run(number, argv)
    assert process.returncode == 0, f"{argv}: {process.returncode}: {process.stderr}"
    return process.stdout.strip()


def rebooted(world: SmallWorld, number: int, before: str) -> None:
    def other() -> bool:
        return world.machines.run(number, BOOT_ID).stdout.strip() not in ("", before)

    eventually(other, "the server to have another boot_id", timeout=30)


@in_world
def test_two_servers_boot_at_once_with_the_keys_they_were_ordered_with(world: SmallWorld) -> None:
    for number in (10, 11):
        world.machines.create(spec(world.run, number))
    expected = key(world.run, HOST_KEY).with_suffix(".pub").read_text().split()[1]
    for number in (10, 11):
        answers(f"203.0.113.{number}")
        output = check(["ssh-keyscan", "-t", "ed25519", f"203.0.113.{number}"])
        assert output.split()[2] == expected, output
        known_hosts = world.run.path / "known_hosts"
        known_hosts.write_text(output)
        login = ["-i", str(key(world.run, LOGIN_KEY)), "-o", f"UserKnownHostsFile={known_hosts}", "-o", "BatchMode=yes"]
        assert check(["ssh", *login, f"root@203.0.113.{number}", "hostname"]).strip() == f"server-{number}"
    answers("2001:db8:11::1")


@in_world
def test_a_reboot_keeps_the_disk_and_nothing_else(world: SmallWorld) -> None:
    server = boot(world)
    before = look(world, server, *BOOT_ID)
    look(world, server, "touch", "/var/lib/kept")
    look(world, server, "nft", "add", "table", "inet", "of_this_boot")
    world.machines.reboot(server)
    rebooted(world, server, before)
    answers("203.0.113.10")
    assert look(world, server, "ls", "/var/lib/kept")
    assert "of_this_boot" not in look(world, server, "nft", "list", "tables")


@in_world
def test_a_server_that_powers_itself_off_stays_off_until_it_is_switched_on(world: SmallWorld) -> None:
    server = boot(world)
    look(world, server, "systemctl", "--no-block", "poweroff")
    eventually(lambda: world.machines[server].process is None, "the server to be off", timeout=20)
    assert "systemd-nspawn left with status 0" in world.machines.console(server)
    world.machines.power_on(server)
    answers("203.0.113.10")
    world.machines.power_off(server)
    assert world.machines[server].process is None


@in_world
def test_delete_leaves_nothing(world: SmallWorld) -> None:
    boot(world, 11)
    before = traces(world)
    world.machines.set_firewall(10, [SSH_FROM_OPERATOR])
    boot(world, 10)
    assert traces(world) != before
    world.machines.delete(10)
    assert traces(world) == before


def traces(world: SmallWorld) -> dict[str, object]:
    """The state of the machine that the end of a server must restore."""
    # Unlike rglob, it does not fail on files that vanish while a server boots.
    groups = [path for tree in cgroups.hierarchies() for path, _, _ in os.walk(tree / world.run.name)]
    return {
        "processes": {path.name for path in Path("/proc").iterdir() if path.name.isdigit() and alive(path)},
        "mounts": Path("/proc/self/mounts").read_text(),
        "namespaces": check(["ip", "netns"]),
        "links": check(["ip", "-n", "inet", "-br", "link"]),
        "rules": network.check([*network.within("inet"), "nft", "list", "ruleset"]),
        "groups": sorted(path for path in groups if "srv-" in path and "srv-11" not in path),
        "disks": sorted(path.name for path in (world.run.path / "servers").iterdir()),
    }


def alive(process: Path) -> bool:
    """Programs of this world other than what server 11 may start or end by itself meanwhile."""
    try:
        return b"nspawn" in (process / "cmdline").read_bytes() or b"dnsmasq" in (process / "cmdline").read_bytes()
    except OSError:
        return False


TOY = "/nix/store/00000000000000000000000000000000-toy"
TOY_INIT = "#!/bin/sh\nexec sleep infinity\n"
KEEP = "etc/kept\nvar/lib/deep/tree\netc/missing\nroot/without-newline"
PREPARE = f"""
mkdir -p {TOY} /boot/grub /var/lib/deep/tree /usr/of-debian /opt/of-debian
chmod 700 /var/lib/deep; chmod 750 /var/lib/deep/tree
echo one >/etc/kept; chmod 600 /etc/kept; echo two >/var/lib/deep/tree/leaf; echo three >/root/without-newline
printf '%s' "$TOY_INIT" >{TOY}/init; chmod 755 {TOY}/init; echo 'echo of its own in "$targetRoot"' >{TOY}/initrd
echo 'linux /nix/store/k/bzImage init={TOY}/init root=x' >/boot/grub/grub.cfg
printf '%s' "$KEEP" >/etc/NIXOS_LUSTRATE
systemctl --no-block reboot
"""


@in_world
def test_stage_1_keeps_exactly_what_the_list_names_and_boots_what_the_boot_loader_names(world: SmallWorld) -> None:
    server = boot(world)
    before = look(world, server, *BOOT_ID)
    look(world, server, "env", f"TOY_INIT={TOY_INIT}", f"KEEP={KEEP}", "sh", "-c", PREPARE)
    rebooted(world, server, before)
    eventually(lambda: "infinity" in look(world, server, "cat", "/proc/1/cmdline"), "the toy to be process 1", 5)
    assert not {"home", "opt", "srv"} & set(look(world, server, "ls", "/").split())
    matches = look(world, server, "find", "/etc", "/var", "-printf", "%p %m\n").splitlines()
    assert sorted(matches) == sorted(
        [
            *("/etc 755", "/etc/NIXOS 644", "/etc/kept 600", "/var 755", "/var/lib 755", "/var/lib/deep 755"),
            *("/var/lib/deep/tree 750", "/var/lib/deep/tree/leaf 644"),
        ]
    )
    for path in ("etc/passwd", "etc/kept", "root/without-newline", "var/lib/cloud/instance", "opt/of-debian"):
        assert look(world, server, "ls", "-d", f"/old-root/{path}")
    assert world.machines.run(server, ["ls", "/usr/of-debian"]).returncode != 0
    console = world.machines.console(server)
    assert "/old-root/etc/missing" in console and re.search("^of its own in .*/root$", console, re.MULTILINE)
    look(world, server, "rm", "-rf", "--one-file-system", "/old-root")
    assert "BEGIN CERTIFICATE" in look(world, server, "cat", "/usr/lib/rehearsal/ca.crt")


@in_world
def test_the_cloud_firewall_lets_in_what_its_rules_say(world: SmallWorld) -> None:
    server = boot(world)

    def opens() -> bool:
        # No banner: sshd punishes a source that connects often without logging in.
        return {tcp_opens("203.0.113.10"), tcp_opens("2001:db8:10::1")} == {True}

    # The server does not use its IPv6 address before it has looked for duplicates, which takes a second.
    eventually(opens, "the server to be reached by IPv4 and IPv6", timeout=10)
    world.machines.set_firewall(server, [])
    assert not opens()
    world.machines.set_firewall(server, [SSH_FROM_OPERATOR])
    assert opens()
    world.machines.set_firewall(server, [replace(SSH_FROM_OPERATOR, networks=("198.51.100.20/32",))])
    assert not opens()
    world.machines.set_firewall(server, [replace(SSH_FROM_OPERATOR, port="80-85")])
    assert not opens()
    world.machines.set_firewall(server, None)
    assert opens()


@in_world
def test_outbound_rules_close_what_they_do_not_name(world: SmallWorld) -> None:
    server = boot(world)
    ping = ["ping", "-c", "1", "-W", "1", "198.51.100.20"]
    world.machines.set_firewall(server, [SSH_FROM_OPERATOR])
    assert network.ACME.ipv4 in look(world, server, "getent", "ahostsv4", "acme.example.org")
    assert get(world, server) == 0
    world.machines.set_firewall(server, [FirewallRule("out", "udp", None, ("0.0.0.0/0", "::/0"))])
    assert get(world, server) != 0, ping


def get(world: SmallWorld, server: int) -> int:
    return world.machines.run(server, ["curl", "-sS", "-m", "2", world.acme.directory]).returncode


@in_world
def test_nothing_leads_out(world: SmallWorld) -> None:
    server = boot(world)
    answers("2001:db8:10::1")
    start = time.monotonic()
    for address in ("192.0.2.7", "8.8.8.8", "2606:4700:4700::1111"):
        with pytest.raises(OSError, match=r"unreachable|No route"):
            socket.create_connection((address, 443), timeout=5)
    for address in ("192.0.2.7", "8.8.8.8", "[2606:4700:4700::1111]"):
        assert world.machines.run(server, ["curl", "-sS", "-m", "5", f"telnet://{address}:53"]).returncode == 7
    assert time.monotonic() - start < 3
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo("debian.org", 443)


@in_world
def test_names_are_what_was_published_last(world: SmallWorld) -> None:
    def addresses(name: str) -> set[str]:
        try:
            return {entry[4][0] for entry in socket.getaddrinfo(name, 443)}  # type: ignore[misc]
        except socket.gaierror:
            return set()

    name, other = "headscale.example.org", "proxied.example.org"
    world.names.publish([DnsAnswer(name, "A", "203.0.113.10"), DnsAnswer(name, "AAAA", "2001:db8:10::1")])
    assert addresses(name) == {"203.0.113.10", "2001:db8:10::1"}
    world.names.publish([DnsAnswer(name, "A", "203.0.113.11"), DnsAnswer(other, "A", "203.0.113.10", proxied=True)])
    assert addresses(name) == {"203.0.113.11"}
    assert addresses(other) == {"192.0.2.1"}
    world.names.publish([])
    assert addresses(name) == set()
    assert dns.Query("198.51.100.10", "A", name) in world.names.queries()


@in_world
def test_devices_find_each_other_directly_unless_a_router_is_in_the_way(world: SmallWorld) -> None:
    with control_server(world) as join:
        with world.device("laptop", 1, "easy") as laptop, world.device("phone", 2, "easy") as phone:
            laptop.join(join)
            phone.join(join)
            with laptop.pinging(phone.addresses()[0]) as pings:
                eventually(lambda: phone.ping(laptop.addresses()[1]), "phone to reach laptop over IPv6", 20)
                eventually(lambda: laptop.path_to(phone) == "direct", "a direct path", 20)
                assert phone.resolve("laptop.ts.example.org") == laptop.addresses()[0]
            assert pings.sent > 0
        with world.device("train", 3, "random") as train, world.device("cafe", 4, "no-stun") as cafe:
            train.join(join)
            cafe.join(join)
            eventually(lambda: train.ping(cafe.addresses()[0]), "train to reach cafe", 20)
            assert train.path_to(cafe) == "relay"
            assert cafe.netcheck()["UDP"] is False


@contextmanager
def control_server(world: SmallWorld) -> Iterator[str]:
    """A headscale on a bare link, with a certificate of its own that everybody here trusts."""
    place, name = network.Customer("control", "203.0.113.200"), "headscale.example.org"
    directory = world.run.directory("headscale")
    certificate = self_signed(directory, name)
    world.acme.bundle.write_text(world.acme.bundle.read_text() + certificate.read_text())
    world.names.publish([DnsAnswer(name, "A", place.ipv4)])
    config = directory / "config.yaml"
    config.write_text(json.dumps(headscale_settings(directory, name, place.ipv4, certificate)))
    headscale = [str(programs.build(print) / "headscale"), "--config", str(config)]
    log = world.run.directory("logs") / "headscale.log"
    argv = [*network.within("control"), *headscale]
    with network.namespace("control"), network.link(place, place="control"), daemon([*argv, "serve"], log=log):
        eventually(lambda: check([*headscale, "users", "create", "tester"]) or "made", "headscale", timeout=20)
        key = check([*headscale, "preauthkeys", "create", "--user", "1", "--reusable"]).strip().split()[-1]
        yield f"tailscale up --login-server https://{name} --auth-key {key}"


def self_signed(directory: Path, name: str) -> Path:
    out = ["-keyout", str(directory / "key.pem"), "-out", str(directory / "cert.pem")]
    what = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-days", "3", "-nodes"]
    check(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", *what, *out])
    return directory / "cert.pem"


def headscale_settings(directory: Path, name: str, address: str, certificate: Path) -> dict[str, object]:
    derp = {"enabled": True, "region_id": 999, "region_code": "here", "region_name": "here", "ipv4": address}
    derp |= {"stun_listen_addr": "0.0.0.0:3478", "private_key_path": str(directory / "derp.key")}
    return {
        "server_url": f"https://{name}",
        "listen_addr": "0.0.0.0:443",
        "metrics_listen_addr": "127.0.0.1:9090",
        "tls_cert_path": str(certificate),
        "tls_key_path": str(directory / "key.pem"),
        "noise": {"private_key_path": str(directory / "noise.key")},
        "prefixes": {"v4": "100.64.0.0/10", "v6": "fd7a:115c:a1e0::/48"},
        "derp": {"server": derp, "urls": [], "paths": [], "auto_update_enabled": False},
        "database": {"type": "sqlite", "sqlite": {"path": str(directory / "db.sqlite")}},
        "dns": {"magic_dns": True, "base_domain": "ts.example.org", "override_local_dns": False},
        "unix_socket": str(directory / "headscale.sock"),
    }


def idle(world: SmallWorld) -> None:
    """Not a test: a world with one server that waits to be ended, and says its name."""
    print(world.run.name, flush=True)
    boot(world)
    print("up", flush=True)
    signal.pause()


def left_behind(name: str) -> list[str]:
    """Processes of a rehearsal, its control groups and its mounts, as the host sees them."""
    files = [path for kind in ("environ", "cgroup") for path in Path("/proc").glob(f"[0-9]*/{kind}")]
    processes = [str(path) for path in files if name.encode() in content(path)]
    groups = [str(tree / name) for tree in cgroups.hierarchies() if (tree / name).exists()]
    mounts = [line for line in Path("/proc/self/mounts").read_text().splitlines() if "/run/rehearsal" in line]
    return [*processes, *groups, *mounts]


def content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("moment", ["entered", "up"])
def test_nothing_outlives_the_outermost_process(number: signal.Signals, moment: str) -> None:
    image.base(print)
    with started("idle", stdout=subprocess.PIPE, preexec_fn=ignore_interrupts) as outermost:
        assert outermost.stdout
        name = outermost.stdout.readline().strip()
        assert left_behind(name)
        if moment == "up":
            assert outermost.stdout.readline() == "up\n"
        outermost.send_signal(number)
        assert outermost.wait(10) == (-number if number == signal.SIGKILL else 128 + number)
        if number == signal.SIGKILL:
            eventually(lambda: not left_behind(name), "the keeper to have cleaned up", timeout=5)
        assert not left_behind(name)


def ignore_interrupts() -> None:
    """Ignore interrupts, as a shell script does for what it starts with `&`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def test_a_second_signal_does_not_wait_for_the_clean_up() -> None:
    with started("stubborn", stdout=subprocess.PIPE) as outermost:
        assert outermost.stdout
        name = outermost.stdout.readline().strip()
        outermost.send_signal(signal.SIGINT)
        assert outermost.stdout.readline() == "cleaning up\n"
        time.sleep(capsule.IMPATIENCE)
        outermost.send_signal(signal.SIGINT)
        try:
            outermost.wait(5)
        finally:
            outermost.kill()
        assert not left_behind(name)


def stubborn() -> None:
    """Not a test: a program whose clean-up never ends."""
    run = capsule.enter()
    print(run.name, flush=True)
    try:
        signal.pause()
    finally:
        print("cleaning up", flush=True)
        while True:
            signal.pause()


@in_world
def test_orphans_are_collected_and_own_children_are_not(world: SmallWorld) -> None:
    own = subprocess.Popen(["true"])
    orphan = int(check(["sh", "-c", "sleep 0.05 >/dev/null 2>&1 & echo $!"]))
    eventually(lambda: not Path(f"/proc/{orphan}").exists(), "the orphan to be collected", timeout=5)
    assert own.wait() == 0


def test_the_callers_settings_stay_outside() -> None:
    foreign = {"SSL_CERT_FILE": "/x", "https_proxy": "http://x", "PULUMI_HOME": "/x", "HCLOUD_TOKEN": "x"}
    with started("environment", stdout=subprocess.PIPE, environment=foreign) as outermost:
        assert outermost.stdout
        inside = json.load(outermost.stdout)
    assert not foreign.keys() & inside.keys()
    assert inside["HOME"] == os.environ["HOME"]


def environment() -> None:
    """Not a test: print what a program inside gets."""
    capsule.enter()
    print(json.dumps(dict(os.environ)))


def test_a_start_sweeps_dead_rehearsals_and_no_live_one() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    live = cgroups.own_name()
    prefix = live.rsplit("-", 2)[0]
    reused, dead = f"{prefix}-{os.getpid()}-1", f"{prefix}-{ended.pid}-1"
    stay = (live, f"rh-1-{ended.pid}-1", "rh-of-somebody")
    for name in (*stay, reused, dead):
        cgroups.create(f"{name}/inner")
    try:
        cgroups.sweep()
        left = {name for name in (*stay, reused, dead) for tree in cgroups.hierarchies() if (tree / name).exists()}
        assert left == set(stay)
    finally:
        for name in (*stay, reused, dead):
            cgroups.destroy(name)


if __name__ == "__main__":
    chosen = globals()[sys.argv[1]]
    if chosen in (stubborn, environment):
        chosen()
    else:
        with world() as running:
            getattr(chosen, "inside", chosen)(running)
