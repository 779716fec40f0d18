"""The guards of the host: the firewall, sshd, fail2ban's jails, hosts that are not ours. The real programs judge."""

import ast
import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
from server_image import HERE, ServerImage, sample_system, sample_tree
from sshd import make_key
from test_nix_nginx import HEADSCALE, UI, nginx

from rehearsal.setup.cache import cached

__all__ = ["nginx"]

ACCESS_LOG = "/var/log/nginx/access.log"
LOOPBACK = {"127.0.0.1/8", "::1"}
TAILNET = {"100.64.0.0/10", "fd7a:115c:a1e0::/48"}
OWN = {"203.0.113.10", "2001:db8:10::1"}
# As nft lists them. Established connections and neighbour discovery are what any host needs.
ANY_HOST = [
    "type filter hook input priority filter; policy drop;",
    'iifname "lo" accept',
    "ct state { established, related } accept",
    "ct state invalid drop",
]
SERVICES = ["tcp dport {ports} accept", "udp dport 3478 accept"]
SSH_FROM_OUTSIDE = [f'iifname "{name}" tcp dport 22 accept' for name in ("en*", "eth*")]
ICMP = [
    "icmp type echo-request accept",
    "icmpv6 type != { nd-redirect, 139 } accept",
    "ip6 daddr fe80::/64 udp dport 546 accept",
]
# What each jail closes to an address, in the order in which fail2ban starts them.
JAILS = {"sshd": "22", "headscale-api-key": "80,443", "nginx-limit-people": "80,443", "nginx-path": "80,443"}
SSHD = {
    "allowusers": "root",
    "authenticationmethods": "publickey",
    "passwordauthentication": "no",
    "kbdinteractiveauthentication": "no",
    "permitrootlogin": "without-password",
    "disableforwarding": "yes",
    "x11forwarding": "no",
    "permitemptypasswords": "no",
    "authorizedkeysfile": "/etc/ssh/authorized_keys.d/%u /var/lib/deployment/authorized_keys",
    "hostkey": "/etc/ssh/ssh_host_ed25519_key",
    "ciphers": "chacha20-poly1305@openssh.com,aes256-gcm@openssh.com,aes128-gcm@openssh.com",
    "macs": "hmac-sha2-512-etm@openssh.com,hmac-sha2-256-etm@openssh.com",
    "loglevel": "VERBOSE",
    "maxauthtries": "4",
    "logingracetime": "30",
    "maxstartups": "10:30:60",
    "persourcemaxstartups": "5",
    "clientaliveinterval": "30",
    "clientalivecountmax": "3",
}


def ruleset(server: ServerImage, system: str) -> str:
    match = re.search(r"ExecStart=\S+ -f (\S+)", server.unit(system, "nftables.service"))
    assert match is not None
    return match[1]


def input_rules(server: ServerImage, system: str) -> list[str]:
    """The rules as loaded, twice, as a switch does over a running firewall."""
    rules = ruleset(server, system)
    listing = server.output("sh", "-euc", f"nft -f {rules}; nft -f {rules}; nft list chain inet nixos-fw input")
    lines = [line.strip() for line in listing.splitlines()]
    return lines[2:-2]


def test_nothing_but_the_services_is_open(server: ServerImage, system: str):
    tcp, udp = SERVICES
    assert input_rules(server, system) == [*ANY_HOST, tcp.format(ports="{ 80, 443 }"), udp, *ICMP, *SSH_FROM_OUTSIDE]


def test_the_host_admits_an_operator_who_has_moved(server: ServerImage, system: str):
    """Only Hetzner's firewall knows adminNetworks: it changes before the operator reaches the host."""
    closed = server.build(server.tree("firewall", adminNetworks=["203.0.113.0/24", "2001:db8::/32"]))
    assert input_rules(server, closed) == input_rules(server, system)


def test_the_metadata_service_answers_root_only(server: ServerImage):
    server.put("/walk.sh", (HERE / "metadata_walk.sh").read_text())
    walked = server.output("bash", "/walk.sh", ruleset(server, sample_system()))
    # 28 is curl's timeout.
    assert walked.splitlines() == ["root 0", "nobody 28"]


def test_a_host_that_is_not_ours_gets_no_answer_and_no_certificate(server: ServerImage, nginx: str):
    server.put("/walk.sh", (HERE / "unknown_host_walk.sh").read_text())
    # curl's 52: the server sent nothing; 35: no TLS. By address of each family, and by a name.
    assert server.output("bash", "/walk.sh", nginx).splitlines() == ["http 52", "https 35"] * 3


@contextmanager
def running_sshd(server: ServerImage, directory: Path, *options: str) -> Iterator[list[str]]:
    """sshd with the built configuration, its log in `directory`; gives what joins its network."""
    server.output("mkdir", "-p", "/run/sshd", "/etc/ssh/authorized_keys.d")
    host_key, login = (directory / "host").read_text(), (directory / "user.pub").read_text()
    server.output("sh", "-c", "umask 077; cat > /etc/ssh/ssh_host_ed25519_key", stdin=host_key)
    server.output("sh", "-c", "cat > /etc/ssh/authorized_keys.d/root", stdin=login)
    config = f"{sample_system()}/etc/ssh/sshd_config"
    command = server.command("/usr/sbin/sshd", "-D", "-e", "-f", config, *options)
    with (directory / "log").open("w") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            await_line(directory / "log", "Server listening on ::")
            yield ["nsenter", f"--target={process.pid}", "--net", "--"]
        finally:
            # unshare ignores SIGTERM; its child dies with it.
            process.kill()


def login_as(directory: Path, user: str, *keys: str) -> list[str]:
    """OpenSSH's command with keys that `directory` holds, by default the one that is let in; makes them first."""
    for name in ("host", "user", "wrong"):
        if not (directory / name).exists():
            make_key(directory / name)
    (directory / "known").write_text(f"127.0.0.1 {(directory / 'host.pub').read_text()}")
    options = ("BatchMode=yes", "IdentitiesOnly=yes", f"UserKnownHostsFile={directory / 'known'}")
    offered = [f"-i{directory / key}" for key in keys or ["user"]]
    return ["ssh", "-F", "none", *(f"-o{option}" for option in options), *offered, f"{user}@127.0.0.1"]


def await_line(log: Path, words: str, after: int = 0) -> None:
    deadline = time.monotonic() + 10
    while not re.search(words, log.read_text()[after:]):
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)


@cache
def settings(server: ServerImage) -> dict[str, str]:
    server.output(
        "sh", "-euc", "mkdir -p /run/sshd; ssh-keygen -qt ed25519 -N '' -f /key; mv /key /etc/ssh/ssh_host_ed25519_key"
    )
    lines = server.output("sshd", "-T", "-f", f"{sample_system()}/etc/ssh/sshd_config").splitlines()
    return dict(line.split(" ", 1) for line in lines)


def test_sshd_lets_in_root_by_key_and_nothing_else(server: ServerImage):
    current = settings(server)
    assert {name: current[name] for name in SSHD} == SSHD


def test_an_admin_network_is_never_turned_away_by_sshd(server: ServerImage):
    system = server.build(server.tree("penalties", adminNetworks=["203.0.113.0/24"]))
    config = server.read(f"{system}/etc/ssh/sshd_config").splitlines()
    assert "PerSourcePenaltyExemptList 127.0.0.0/8,::1,203.0.113.0/24" in config


GO_MODULE = HERE.parent / "rehearsal/go/secrets"


@pytest.fixture(scope="module")
def go_client() -> Path:
    """A login as Pulumi's command provider makes it, linked with a module that brings golang.org/x/crypto/ssh."""

    def make(directory: Path) -> None:
        command = ["go", "build", "-trimpath", "-o", str(directory / "client"), str(HERE / "go_ssh/main.go")]
        subprocess.run(command, cwd=GO_MODULE, check=True, capture_output=True, text=True)

    return cached("go-ssh", [HERE / "go_ssh", GO_MODULE], make) / "client"


def test_every_client_of_ours_agrees_with_sshd_and_answers_while_it_waits(
    server: ServerImage, go_client: Path, tmp_path: Path
):
    openssh, user, host = login_as(tmp_path, "root"), str(tmp_path / "user"), str(tmp_path / "host.pub")
    clients = {
        "OpenSSH": openssh,
        "asyncssh": [sys.executable, str(HERE / "ssh_client.py"), "22", user, host],
        "Go": [str(go_client), "127.0.0.1:22", user, host],
    }
    options = ("-oLogLevel=DEBUG1", "-oClientAliveInterval=1", "-oClientAliveCountMax=1")
    with running_sshd(server, tmp_path, *options) as joined, ThreadPoolExecutor() as pool:
        commands = [[*joined, *client, "/usr/bin/sleep 3"] for client in clients.values()]
        ended = dict(zip(clients, pool.map(outcome, commands), strict=True))
    assert ended == dict.fromkeys(clients, "")
    exchanged = re.findall(r"kex: algorithm: (\S+)", (tmp_path / "log").read_text())
    assert len(exchanged) == len(clients) and "mlkem768x25519-sha256" in exchanged, exchanged


def outcome(command: list[str]) -> str:
    """The error message, or nothing."""
    process = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    return f"{process.returncode}: {process.stderr}" if process.returncode else ""


def orders(server: ServerImage, system: str) -> list[list]:
    """The configuration that fail2ban reads from its files, as the orders that its server gets."""
    server.output("sh", "-euc", "mkdir -p /var/log/nginx; touch /var/log/nginx/access.log")
    read = server.output("fail2ban-client", "-c", f"{system}/etc/fail2ban", "-d")
    return [ast.literal_eval(line) for line in read.splitlines()]


def test_fail2ban_takes_its_configuration(server: ServerImage):
    current = orders(server, sample_system())
    assert [order[1] for order in current if order[0] == "start"] == list(JAILS)
    actions = {order[1]: dict(order[4]) for order in current if order[0] == "multi-set" and order[2] == "action"}
    assert {jail: action["port"] for jail, action in actions.items()} == JAILS
    assert {action["actname"] for action in actions.values()} == {"nftables-networks"}
    server.output("fail2ban-client", "-c", f"{sample_system()}/etc/fail2ban", "--test")


def test_bans_grow_and_are_remembered_on_the_disk(server: ServerImage):
    current = orders(server, sample_system())
    assert ["set", "dbfile", "/var/lib/fail2ban/fail2ban.sqlite3"] in current
    # What was forgotten cannot grow: longer than the longest ban.
    assert ["set", "dbpurgeage", "1w"] in current
    for jail in JAILS:
        assert ["set", jail, "bantime.increment", True] in current
        assert ["set", jail, "bantime.maxtime", "1d"] in current


def test_no_jail_bans_an_admin_the_tailnet_or_the_server(server: ServerImage):
    admins = ["198.51.100.0/24", "2001:db8:1::/64"]
    # Everybody is in such a network: none of them is exempt.
    system = server.build(server.tree("ignored", adminNetworks=[*admins, "0.0.0.0/0", "::/0"]))
    current = orders(server, system)
    ignored = {order[1]: set(order[3:]) for order in current if order[2:3] == ["addignoreip"]}
    assert ignored == dict.fromkeys(JAILS, LOOPBACK | TAILNET | OWN | set(admins))


def failures(server: ServerImage, jail: str, log: str, form: str = "journal") -> Counter[str]:
    """The number of failures of each address that fail2ban's own program sees in a log, with the jail's filter."""
    server.put("/judged.log", log)
    mode = server.evaluate(sample_tree(), f"services.fail2ban.jails.{jail}.settings").get("mode", "normal")
    config = f"{sample_system()}/etc/fail2ban"
    classes = server.output(
        "fail2ban-regex", "-c", config, "-o", "ip", "/judged.log", f"{jail}[mode={mode},logtype={form}]"
    )
    return Counter(classes.split())


def in_journal(program: str, log: str) -> str:
    """A log as fail2ban gets it from the journal."""
    return "".join(f"2026-11-23T12:00:00 headscale {program}[7]: {line}\n" for line in log.splitlines())


LOGINS = {
    "root, a key that is not known": ("root", ["wrong"], 1),
    "no such user": ("admin", ["user"], 1),
    "a user who is not root": ("nobody", ["user"], 1),
    "root, a wrong key before the right one": ("root", ["wrong", "user"], 0),
}


def test_a_login_counts_when_it_fails(server: ServerImage, tmp_path: Path):
    attempts = {what: login_as(tmp_path, user, *keys) for what, (user, keys, _) in LOGINS.items()}
    output = {}
    with running_sshd(server, tmp_path) as joined:
        for what, command in attempts.items():
            start = len((tmp_path / "log").read_text())
            subprocess.run([*joined, *command, "true"], stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
            await_line(tmp_path / "log", "Connection closed by|Disconnected from", after=start)
            output[what] = (tmp_path / "log").read_text()[start:]
    for what, (_, _, least) in LOGINS.items():
        counted = failures(server, "sshd", in_journal("sshd-session", output[what]))["127.0.0.1"]
        assert (counted >= least) if least else (counted == 0), f"{what}: {counted} in {output[what]}"


def answers(server: ServerImage, nginx: str, *requests: tuple[str, str, str, dict[str, str]]) -> list[int]:
    """The statuses of requests, with nginx's logs emptied before."""
    server.output("sh", "-euc", ": > /var/log/nginx/access.log")
    server.put("/walk.py", (HERE / "nginx_walk.py").read_text())
    walked = json.loads(server.output("python3", "/walk.py", nginx, stdin=json.dumps(requests)))
    return [answer[0] for answer in walked]


def test_a_refusal_counts_when_it_is_by_the_limits_for_people(server: ServerImage, nginx: str):
    statuses = answers(server, nginx, *[(HEADSCALE, "GET", "/health?key=hunter2", {})] * 60)
    log = server.read(ACCESS_LOG)
    assert 0 < statuses.count(429) == failures(server, "nginx-limit-people", log, "file")["127.0.0.1"]
    assert server.read("/var/log/nginx/stderr") == ""
    assert "hunter2" not in log
    statuses = answers(server, nginx, *[(HEADSCALE, "GET", "/key", {})] * 400)
    assert statuses.count(429) > 0
    assert failures(server, "nginx-limit-people", server.read(ACCESS_LOG), "file").total() == 0


def test_a_path_that_is_written_to_be_taken_for_another_is_refused_and_counts(server: ServerImage, nginx: str):
    refused = ["/register/../key", "/api/v1/user/../../../key", "/k%65y", "//key", "/x%2f..%2fhealth", "/./key"]
    taken = ["/key?v=1", "/health", "/key?next=/../x", "/register/hskey-authreq-x"]
    statuses = answers(server, nginx, *((HEADSCALE, "GET", path, {}) for path in refused + taken))
    assert statuses == [400] * len(refused) + [200] * len(taken)
    assert failures(server, "nginx-path", server.read(ACCESS_LOG), "file") == {"127.0.0.1": len(refused)}


CLIENTS = {
    "2001:db8:7:8:9::a": "2001:db8:7:8::/64",
    "2001:db8:7:8::1": "2001:db8:7:8::/64",
    "2001:db8::1": "2001:db8::/64",
    "2001:db8:0:a::1": "2001:db8:0:a::/64",
    # A byte that ends a line for most regular expressions.
    "2001:db8:a0a:a::1": "2001:db8:a0a:a::/64",
    "198.51.100.66": "198.51.100.66",
    # An admin's own, whose neighbours do not count for it.
    "2001:db8:1::10": "2001:db8:1::10",
    "2001:db8:1::11": "2001:db8:1::/64",
}


def test_an_ipv6_network_is_one_client_and_an_admin_is_none_of_its_neighbours(server: ServerImage, nginx: str):
    system = server.build(server.tree("clients", adminNetworks=["2001:db8:1::10/128"]))
    server.put("/walk.py", (HERE / "nginx_walk.py").read_text())
    server.output("sh", "-euc", f": > {ACCESS_LOG}")
    wrong = {"Authorization": "Bearer wrong"}
    asked = [[UI, "GET", "/api/v1/user", wrong, address] for address in CLIENTS]
    server.output("python3", "/walk.py", f"{system}/etc/nginx/nginx.conf", stdin=json.dumps(asked))
    counted = failures(server, "headscale-api-key", server.read(ACCESS_LOG), "file")
    assert counted == Counter(CLIENTS.values())


def test_a_401_counts_when_the_api_gives_it(server: ServerImage, nginx: str):
    wrong = {"Authorization": "Bearer wrong"}
    statuses = answers(
        server,
        nginx,
        (UI, "GET", "/api/v1/user?key=x", wrong),
        (UI, "POST", "/api/v1/node/1/tags", wrong),
        (UI, "GET", "/api/v1/user", {}),
        (UI, "GET", "/api/v1/node", {"X-Refuse": "without a key"}),
        (UI, "GET", "/web/", wrong),
        (HEADSCALE, "GET", "/health", wrong),
        (HEADSCALE, "GET", "/api/v1/user", wrong),
        (HEADSCALE, "GET", "/%22%20401%205%0a192.0.2.1%20-%20[]%20%22GET%20/api/v1/user%22%20401%205", {}),
    )
    assert statuses == [401, 401, 200, 401, 200, 401, 404, 400]
    assert failures(server, "headscale-api-key", server.read(ACCESS_LOG), "file") == {"127.0.0.1": 2}
