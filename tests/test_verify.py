"""scripts/verify: what it expects is what nix/ says, and its verdicts where no rehearsal can break the thing itself."""

import dataclasses
import re
import socket
import struct
import threading
from pathlib import Path

import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.resolver
import pytest

from scripts.commands import Refused
from scripts.verification import network, stun, target, tls, web
from scripts.verification.devices import failure
from scripts.verification.report import Check, NotChecked, Wrong, lines, once

NIX = Path(__file__).resolve().parent.parent / "nix"
PONG = "pong from verify-2 (100.64.0.2) via DERP(headscale) in 3ms"
NAME = "headscale.example.org"
SERVER = target.Target(
    headscale=NAME,
    former=(),
    ui="headscale-ui.example.org",
    ipv4="203.0.113.10",
    ipv6="2001:db8:10::1",
    host_keys=(),
    deploy_key="",
    admin_networks=("198.51.100.0/24", "2001:db8:1::/64"),
    ui_networks=(),
    authority=None,
    resolver=None,
)


@pytest.mark.parametrize("host", ["headscale.nix", "headscale-ui.nix"])
def test_each_header_that_is_always_sent_is_expected(host: str):
    text = (NIX / "response-headers.conf").read_text() + (NIX / host).read_text()
    assert len(web.expected_headers(host)) == len(re.findall(r"^ *add_header .* always;$", text, re.MULTILINE)) >= 8


def test_five_runs_in_a_row_stay_below_what_is_banned():
    burst = int(re.findall(r"zone=people burst=(\d+)", (NIX / "for-people.conf").read_text())[0])
    jail = (NIX / "fail2ban.nix").read_text().partition("nginx-limit-people.settings")[2]
    refused = web.BURST - burst
    assert 0 < 2 * 5 * refused <= int(re.findall(r"maxretry = (\d+)", jail)[0])


@pytest.mark.parametrize(
    ("icmp", "tsmp", "online", "verdict"),
    [
        ("timeout waiting for ping reply", PONG, True, NotChecked),
        ("no matching peer", "no matching peer", True, NotChecked),
        ("no matching peer", "no matching peer", False, Wrong),
        ("timeout waiting for ping reply", "timeout waiting for ping reply", True, Wrong),
    ],
)
def test_a_ping_that_the_policy_forbids_is_distinguished(icmp: str, tsmp: str, online: bool, verdict: type):
    problem = failure(icmp, tsmp, online)
    assert type(problem) is verdict
    assert ("the policy forbids it" in str(problem)) == (verdict is NotChecked)


@pytest.mark.parametrize("address", ["198.51.100.10", "2001:db8:1::10"])
def test_stun_reads_the_address_of_its_own_answer_only(address: str):
    transaction = b"t" * 12
    packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    mask = struct.pack("!I", stun.COOKIE) + transaction
    masked = bytes(a ^ b for a, b in zip(packed, mask, strict=False))
    attribute = struct.pack("!HHHH", stun.XOR_MAPPED_ADDRESS, 4 + len(masked), 1, 0) + masked
    answer = struct.pack("!HHI", 0x0101, len(attribute), stun.COOKIE) + transaction + attribute
    assert stun.mapped_address(answer, transaction) == address
    assert stun.mapped_address(answer, b"u" * 12) is None
    assert stun.mapped_address(answer[:20], transaction) is None


@pytest.mark.parametrize(
    ("own", "admitted"), [("198.51.100.10", True), ("192.0.2.1", False), ("2001:db8:1::1", True), (None, None)]
)
def test_ssh_is_expected_to_be_open_to_admin_networks(own: str | None, admitted: bool | None, monkeypatch):
    monkeypatch.setattr(stun, "own_address", lambda server: own)
    assert SERVER.admits_ssh(SERVER.ipv4) is admitted
    assert dataclasses.replace(SERVER, admin_networks=()).admits_ssh(SERVER.ipv4) is True


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([f"{NAME}. 60 IN A 203.0.113.10"], ""),
        ([f"{NAME}. 60 IN A 203.0.113.99"], "leads to 203.0.113.99, not to 203.0.113.10"),
        ([f"{NAME}. 60 IN A 203.0.113.10", f"{NAME}. 60 IN A 203.0.113.99"], "leads to 203.0.113.99 as well"),
        ([f"{NAME}. 60 IN CNAME x.example.", "x.example. 60 IN A 203.0.113.10"], "is an alias of x.example"),
    ],
)
def test_a_record_is_the_servers_and_nothing_else(records: list[str], words: str, monkeypatch):
    text = "\n".join([f"id 1\nopcode QUERY\nrcode NOERROR\nflags QR\n;QUESTION\n{NAME}. IN A\n;ANSWER", *records])
    message = dns.message.from_text(text)
    question = dns.name.from_text(NAME), dns.rdatatype.A, dns.rdataclass.IN
    monkeypatch.setattr(network, "_resolve", lambda *_: dns.resolver.Answer(*question, message))
    if not words:
        assert network.record(SERVER, NAME, "A") == SERVER.ipv4
        return
    with pytest.raises(Wrong, match=words):
        network.record(SERVER, NAME, "A")


SOUND = {
    "heartbleed": {"is_vulnerable_to_heartbleed": False},
    "openssl_ccs_injection": {"is_vulnerable_to_ccs_injection": False},
    "robot": {"robot_result": "NOT_VULNERABLE_RSA_NOT_SUPPORTED"},
    "tls_compression": {"supports_compression": False},
    "session_renegotiation": {
        "supports_secure_renegotiation": True,
        "is_vulnerable_to_client_renegotiation_dos": False,
    },
}


@pytest.mark.parametrize(
    ("command", "field", "value", "words"),
    [
        ("heartbleed", "is_vulnerable_to_heartbleed", True, "Heartbleed"),
        ("openssl_ccs_injection", "is_vulnerable_to_ccs_injection", True, "CCS injection"),
        ("robot", "robot_result", "VULNERABLE_WEAK_ORACLE", "ROBOT"),
        ("tls_compression", "supports_compression", True, "CRIME"),
        ("session_renegotiation", "supports_secure_renegotiation", False, "insecure renegotiation"),
        ("session_renegotiation", "is_vulnerable_to_client_renegotiation_dos", True, "renegotiation by clients"),
    ],
)
def test_each_weakness_of_tls_is_wrong(command: str, field: str, value: object, words: str, monkeypatch):
    monkeypatch.setattr(tls, "scan", lambda _: {NAME: SOUND})
    tls.weaknesses(SERVER, NAME)
    monkeypatch.setattr(tls, "scan", lambda _: {NAME: SOUND | {command: SOUND[command] | {field: value}}})
    with pytest.raises(Wrong, match=words):
        tls.weaknesses(SERVER, NAME)


def test_without_the_scanner_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(tls, "SCANNER", Path("/nowhere/sslyze"))
    with pytest.raises(Refused, match=re.escape("pip install -r requirements-verify.txt")):
        tls.scanner()


def test_what_is_asked_twice_at_once_is_looked_at_once():
    begin, looks = threading.Event(), []

    @once
    def look(server: str) -> str:
        looks.append(server)
        begin.wait(1)
        return server

    threading.Timer(0.1, begin.set).start()
    ended = list(lines([Check(f"{number}", lambda: look("same")) for number in range(4)], at_once=4))
    assert ([line.note for line in ended], looks) == (["same"] * 4, ["same"])


def test_the_lines_come_in_order_and_a_problem_is_one_line():
    def refuse() -> str:
        raise Wrong("is not there; `pulumi up` makes it")

    def fail() -> str:
        raise ConnectionRefusedError("nobody listens")

    checks = [Check("one", refuse), Check("two", fail), Check("three", lambda: "seen")]
    table = [(line.what, line.verdict, line.note) for line in lines(checks, at_once=3)]
    assert table == [
        ("one", "wrong", "is not there; `pulumi up` makes it"),
        ("two", "wrong", "ConnectionRefusedError: nobody listens"),
        ("three", "well", "seen"),
    ]
