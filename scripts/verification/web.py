"""The websites: redirects, headers, bodies, the API's door, limits."""

import base64
import hashlib
import http.client
import json
import re
import secrets
import socket
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

from ..commands import PROGRAM
from .report import NotChecked, Wrong
from .target import Target
from .tls import TIMEOUT, connection

API = "/api/v1/user"
PAGE = "/web/"
NOT_A_PAGE = "/no-such-page"
DEPLOY = "`pulumi up` deploys what nix/ says"
ADD_HEADER = re.compile(r'^\s*add_header (\S+) (?:"([^"]*)"|([^"\s]+)) always;', re.MULTILINE)
INLINE_SCRIPT = re.compile(r"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", re.DOTALL)
POLICY = "content-security-policy"
# More than the 20 that nginx.nix lets through at once, and refused fewer than the 100 a minute that fail2ban.nix bans
# for, also by five runs in a row.
BURST = 30
RECOVERY = 10


@dataclass(frozen=True)
class Answer:
    """`headers` have lower-case names; one that comes twice is there twice."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: str

    def values(self, header: str) -> list[str]:
        return [value for name, value in self.headers if name == header.lower()]


def ask(
    target: Target, name: str, path: str, *, method: str = "GET", headers: Mapping[str, str] | None = None
) -> Answer:
    """Ask the server itself. A wrong certificate, a line of its own, does not matter: nothing here is secret."""
    with connection(target, name, trusted=False) as secure, closing(http.client.HTTPConnection(name)) as exchange:
        exchange.sock = secure
        exchange.request(method, path, headers=dict(headers or {}))
        return _answer(exchange)


def redirects(target: Target, name: str) -> str:
    path = f"/{secrets.token_hex(4)}?a=b"
    with closing(http.client.HTTPConnection(name, timeout=TIMEOUT)) as exchange:
        exchange.sock = socket.create_connection((target.ipv4, 80), timeout=TIMEOUT)
        exchange.request("GET", path)
        answer = _answer(exchange)
    location = f"https://{name}{path}"
    if answer.status not in (301, 308) or answer.values("location") != [location]:
        raise Wrong(f"answers {answer.status} to http://{name}{path}, not a redirect to {location}; {DEPLOY}")
    return f"{answer.status} to https"


def headers(target: Target, name: str) -> str:
    """Every header of nix/, once, on a page and on an error."""
    expected = expected_headers("headscale-ui.nix" if name == target.ui else "headscale.nix")
    for path in (PAGE if name == target.ui else "/health", NOT_A_PAGE):
        answer = ask(target, name, path)
        for header, value in expected.items():
            _insist(answer.values(header) == [value], name, path, header, value, answer)
        if name == target.ui:
            _insist_on_policy(answer, path)
    return f"{len(expected) + (name == target.ui)} on a page and on an error"


def expected_headers(host: str) -> dict[str, str]:
    """The headers that nix/ adds to each answer of the host in this file, the generated policy of the UI apart."""
    text = "".join((PROGRAM / "nix" / file).read_text() for file in ("response-headers.conf", host))
    return {header: quoted or plain for header, quoted, plain in ADD_HEADER.findall(text)}


def _insist(right: bool, name: str, path: str, header: str, value: str, answer: Answer) -> None:
    if not right:
        there = answer.values(header)
        raise Wrong(f"https://{name}{path} has {header} {there or 'not at all'}, not {value!r} once; {DEPLOY}")


def _insist_on_policy(answer: Answer, path: str) -> None:
    """The UI's policy, made from its pages: it names each inline script and lets no other in."""
    policies = answer.values(POLICY)
    if len(policies) != 1:
        raise Wrong(f"{path} has {len(policies)} headers Content-Security-Policy, not one; {DEPLOY}")
    rules = {name: value for name, _, value in (part.strip().partition(" ") for part in policies[0].split(";"))}
    scripts = rules.get("script-src", "").split()
    if rules.get("default-src") != "'none'" or "'unsafe-inline'" in scripts or rules.get("frame-ancestors") != "'none'":
        raise Wrong(f"the Content-Security-Policy of {path} lets in what it should not: {policies[0]}; {DEPLOY}")
    digests = [hashlib.sha256(script.encode()).digest() for script in INLINE_SCRIPT.findall(answer.body)]
    if lacking := {f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests} - set(scripts):
        raise Wrong(f"the Content-Security-Policy of {path} does not name its script {', '.join(lacking)}; {DEPLOY}")


def health(target: Target, name: str) -> str:
    answer = ask(target, name, "/health")
    if answer.status != 200 or _json(answer) != {"status": "pass"}:
        raise Wrong(f"answers {answer.status} {answer.body[:80]!r}: headscale does not run, or not well; {_preview()}")
    return "pass"


def key(target: Target, name: str) -> str:
    answer = ask(target, name, "/key?v=130")
    public = str((_json(answer) or {}).get("publicKey", ""))
    if not public.startswith("mkey:"):
        raise Wrong(f"answers {answer.status} {answer.body[:80]!r}, not headscale's public key; {_preview()}")
    return f"{public[:14]}..."


def page(target: Target) -> str:
    """The UI, or to who is not admitted a refusal."""
    answer, admitted = ask(target, target.ui, PAGE), target.admits_ui()
    if answer.status == 403 and admitted is not True:
        return "refused: this machine is not in headscale:uiAllowedNetworks"
    if answer.status != 200 or "<script" not in answer.body or admitted is False:
        raise Wrong(f"answers {answer.status} {answer.body[:80]!r}, not the web interface; {DEPLOY}")
    return f"{len(answer.body)} letters"


def api_refuses(target: Target) -> str:
    answer = ask(target, target.ui, API)
    expected = {True: [401], False: [403], None: [401, 403]}[target.admits_ui()]
    if answer.status not in expected:
        raise Wrong(
            f"answers {answer.status} to a request without a key, not {expected[0]}: if it is 200, anyone rules "
            f"headscale; `ssh` and `systemctl stop nginx` close it, then {DEPLOY}"
        )
    return str(answer.status)


def api_is_closed(target: Target, name: str) -> str:
    answer = ask(target, name, API)
    if answer.status != 404:
        raise Wrong(f"answers {answer.status} to https://{name}{API}, not 404; {DEPLOY}")
    return "404"


def upgrades(target: Target, name: str) -> str:
    """Devices speak a protocol of their own after an upgrade; the handshake is none, so that headscale ends it then."""
    headers = {
        "Upgrade": "tailscale-control-protocol",
        "Connection": "upgrade",
        "X-Tailscale-Handshake": base64.b64encode(b"\0").decode(),
    }
    answer = ask(target, name, "/ts2021", method="POST", headers=headers)
    if answer.status != 101:
        raise Wrong(f"answers {answer.status}, not 101: no device can connect. A proxy between, or {_preview()}")
    return "101"


def limits(target: Target) -> str:
    """A few requests too many are refused, and soon after that they are not."""
    statuses = Counter(_burst(target))
    if set(statuses) - {200, 429}:
        raise NotChecked(f"/health answers {_counts(statuses)}")
    if not statuses[429]:
        raise Wrong(f"{_counts(statuses)}: who guesses or floods is not slowed down; {DEPLOY}")
    deadline = time.monotonic() + RECOVERY
    while ask(target, target.headscale, "/health").status != 200:
        if time.monotonic() > deadline:
            raise Wrong(f"/health still refuses {RECOVERY} s after {BURST} requests; {DEPLOY}")
        time.sleep(1)
    return f"{statuses[429]} of {BURST} requests at once refused, none later"


def _burst(target: Target) -> list[int]:
    """The statuses of BURST requests that are all sent before the first answer, so that no distance slows them down."""
    request = f"GET /health HTTP/1.1\r\nHost: {target.headscale}\r\n"
    last = f"{request}Connection: close\r\n\r\n"
    with connection(target, target.headscale, trusted=False) as secure:
        secure.sendall((f"{request}\r\n" * (BURST - 1) + last).encode())
        answers = b"".join(iter(lambda: secure.recv(65536), b""))
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]


def _answer(exchange: http.client.HTTPConnection) -> Answer:
    try:
        answer = exchange.getresponse()
        body = answer.read().decode(errors="replace")
    except http.client.HTTPException as problem:
        raise Wrong(f"no HTTP answer: {type(problem).__name__} {problem}") from None
    return Answer(answer.status, tuple((name.lower(), value) for name, value in answer.getheaders()), body)


def _json(answer: Answer) -> dict[str, object] | None:
    try:
        value = json.loads(answer.body)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _counts(statuses: Counter[int]) -> str:
    return ", ".join(f"{times} times {status}" for status, times in sorted(statuses.items()))


def _preview() -> str:
    return "`pulumi preview` names what differs on the server"
