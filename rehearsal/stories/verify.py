"""scripts/verify looks from outside: all is well, nobody is banned, and whatever is broken is the line that says so."""

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rehearsal.emulators.api import Request
from rehearsal.internet.network import OPERATOR
from rehearsal.sandbox.processes import check
from rehearsal.sandbox.wait import eventually
from rehearsal.story import HEADSCALE, UI, Story

CONFIGURATION = "/etc/nginx/nginx.conf"
ON_HEADSCALES = r"/server_name headscale\.example\.org;/,$ "
ON_THE_UIS = r"/server_name headscale-ui\.example\.org;/,/server_name headscale\.example\.org;/ "
BEFORE = r"s|location = /ts2021 {|location NEW &|"
WRONG_NAME = f"s|/var/lib/acme/{HEADSCALE}/|/var/lib/acme/{UI}/|"
CBC = (
    "ssl_ciphers ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"
)
USER = "verify-throw-away-"
RUNS = 5
JAILS = ("sshd", "headscale-api-key", "nginx-path", "nginx-limit-people")
JOIN, PING, LEAVE, GONE = (
    "two throw-away devices join",
    "one pings the other through the tailnet",
    "they leave",
    "their user and key are gone",
)


def before_devices(location: str) -> str:
    """Another location before that of the devices' protocol, on headscale's name."""
    return ON_HEADSCALES + BEFORE.replace("NEW", location)


def of(name: str, *lines: str) -> set[str]:
    return {f"{name}: {line}" for line in lines}


# What is done to NGINX's configuration by sed, and the lines that are wrong then.
NGINX = {
    "headscale's name sends no security headers": (
        ON_HEADSCALES + "s|include [^;]*response-headers.conf;||",
        of(HEADSCALE, "security headers"),
    ),
    "the web interface has no policy": (ON_THE_UIS + "s|include [^;]*csp.conf;||", of(UI, "security headers")),
    "the redirect is off": (ON_HEADSCALES + "s|return 301 [^;]*;|return 404;|", of(HEADSCALE, "redirect")),
    "the page of the web interface is absent": (
        ON_THE_UIS + "s|try_files /web/index.html =404;|return 404;|",
        of(UI, "web interface"),
    ),
    "the certificate is for another name": (ON_HEADSCALES + WRONG_NAME, of(HEADSCALE, "certificate's names")),
    "TLS 1.2 is off": (
        "s|ssl_protocols .*;|ssl_protocols TLSv1.3;|",
        of(HEADSCALE, "TLS versions") | of(UI, "TLS versions"),
    ),
    "TLS 1.1 is on": (
        f"s|ssl_protocols .*;|ssl_protocols TLSv1.1 TLSv1.2 TLSv1.3;|; s|ssl_ciphers .*;|{CBC}:@SECLEVEL=0;|",
        of(HEADSCALE, "TLS versions", "ciphers") | of(UI, "TLS versions", "ciphers"),
    ),
    "ciphers without authentication": (f"s|ssl_ciphers .*;|{CBC};|", of(HEADSCALE, "ciphers") | of(UI, "ciphers")),
    "/health is another page": (
        before_devices(
            "= /health { limit_req zone=people burst=20 nodelay; proxy_pass http://127.0.0.1:8085/version; }"
        ),
        of(HEADSCALE, "/health"),
    ),
    "/key is absent": (before_devices("= /key { return 404; }"), of(HEADSCALE, "/key")),
    "devices cannot upgrade": (ON_HEADSCALES + "s|location = /ts2021 {|& return 404;|", of(HEADSCALE, "/ts2021")),
    "the API is on headscale's name": (
        before_devices("/api/ { proxy_pass http://127.0.0.1:8085; }"),
        of(HEADSCALE, "API is closed"),
    ),
    "the API asks for no key": (
        ON_THE_UIS + "s|location = /web/ {|location = /api/v1/user { return 200; } &|",
        of(UI, "API without a key"),
    ),
    "nobody is limited": ("s|zone=people:10m rate=10r/s|zone=people:10m rate=9000r/s|", {"limits"}),
    "who ran into a limit is refused for long": ("s|zone=people:10m rate=10r/s|zone=people:10m rate=1r/m|", {"limits"}),
}


class Verify(Story):
    """The operator looks at a server, from a network that no jail spares."""

    def tell(self) -> None:
        self.world.stack.set("adminNetworks", as_list=True)
        self.up()
        self.all_is_well()
        self.nobody_is_banned()
        self.nothing_is_written()
        self.names()
        self.firewall()
        self.host_key()
        self.nginx()
        self.certificates()
        self.killed()
        self.devices()

    def look(self, *flags: str, expect: int = 0) -> dict[str, dict[str, Any]]:
        """The lines of scripts/verify by what they look at."""
        process = self.begin("--json", *flags)
        output, errors = process.communicate(timeout=300)
        assert output, f"{process.returncode}: {errors}"
        lines = {line["what"]: line for line in json.loads(output)["lines"]}
        unwell = [each for each in lines.values() if each["verdict"] != "well"]
        assert process.returncode == expect, f"ended with {process.returncode}: {unwell}"
        assert "Traceback" not in errors, errors
        return lines

    def begin(self, *flags: str) -> subprocess.Popen[str]:
        return self.world.stack.verify("--ca", str(self.world.ca_bundle), *flags)

    def wrong(self, *flags: str) -> dict[str, str]:
        lines = self.look(*flags, expect=1)
        return {what: line["note"] for what, line in lines.items() if line["verdict"] == "wrong"}

    def is_wrong(self, broken: str, expected: set[str], *flags: str) -> None:
        """Exactly these lines are wrong."""
        with self.report.step(f"{broken}: that is wrong, and nothing else") as line:
            lines = self.wrong(*flags)
            assert lines.keys() == expected, f"wrong: {lines}, expected {expected}"
            line.note = ", ".join(lines)

    def all_is_well(self) -> None:
        with self.report.step("the operator looks, with two throw-away devices: all is well") as line:
            lines = self.look("--devices")
            verdicts = {what: each["verdict"] for what, each in lines.items()}
            assert set(verdicts.values()) == {"well"}, lines
            line.note = f"{len(lines)} lines in {sum(each['seconds'] for each in lines.values()):.0f} s"

    def nobody_is_banned(self) -> None:
        with self.report.step(f"{RUNS} runs in a row without admin networks: nobody is banned") as line:
            for _ in range(RUNS):
                self.look()
            banned = json.loads(self.world.host.run("fail2ban-client", "banned").replace("'", '"'))
            assert not any(addresses for jail in banned for addresses in jail.values()), banned
            line.note = ", ".join(f"{jail} counts {self.failures(jail)}" for jail in JAILS)

    def failures(self, jail: str) -> int:
        return int(re.findall(r"Total failed:\s+(\d+)", self.world.host.run("fail2ban-client", "status", jail))[0])

    def nothing_is_written(self) -> None:
        with self.report.step("without devices nothing is written, on the host or in the clouds"):
            before = self.written()
            self.look()
            assert self.written() == before

    def written(self) -> list[object]:
        nodes = [node["id"] for node in self.world.headscale.nodes()]
        return [self.world.host_snapshot(), nodes, dict(self.world.cloudflare.records)]

    def names(self) -> None:
        with self.record(content="198.51.100.99"):
            self.is_wrong("a wrong A record", of(HEADSCALE, "A"))
        with self.record(proxied=True):
            self.is_wrong("an A record behind Cloudflare's proxy", of(HEADSCALE, "A"))
        with self.foreign("AAAA", "2001:db8:1::99"):
            self.is_wrong("a foreign AAAA record", of(UI, "AAAA"))

    @contextmanager
    def record(self, **fields: object) -> Iterator[None]:
        """Headscale's A record is another, as a person makes it in the dashboard."""
        cloudflare = self.world.cloudflare
        (record,) = (each for each in cloudflare.records.values() if (each.name, each.type) == (HEADSCALE, "A"))
        with cloudflare.lock:
            cloudflare.edit(Request(body=fields), record.zone_id, record.id)
        yield
        with cloudflare.lock:
            body = {"content": record.content, "proxied": record.proxied, "ttl": record.ttl}
            cloudflare.edit(Request(body=body), record.zone_id, record.id)

    @contextmanager
    def foreign(self, kind: str, content: str) -> Iterator[None]:
        cloudflare = self.world.cloudflare
        cloudflare.add("example.org", name=UI, type=kind, content=content)
        yield
        (id,) = (each.id for each in cloudflare.records.values() if each.content == content)
        cloudflare.remove(id)

    def firewall(self) -> None:
        ipv4, ipv6 = self.outputs["serverIpv4"], self.outputs["serverIpv6"]
        with self.rules("3478", opens=False):
            self.is_wrong("UDP 3478 is closed", of(ipv4, "STUN") | of(ipv6, "STUN"))
        with self.rules("8080", opens=True), self.edited(r"s|listen 0\.0\.0\.0:80;|& listen 0.0.0.0:8080;|"):
            self.world.host.run("nft", "insert", "rule", "inet", "nixos-fw", "input", "tcp", "dport", "8080", "accept")
            self.is_wrong("TCP 8080 is open", of(ipv4, "open ports"))
        with self.rules("22", opens=False):
            self.is_wrong("TCP 22 is closed", of(ipv4, "open ports") | of(ipv6, "open ports"))

    @contextmanager
    def rules(self, port: str, opens: bool) -> Iterator[None]:
        (firewall,) = self.world.ask_hetzner("GET", "firewalls")["firewalls"]
        usual = [{key: value for key, value in rule.items() if value is not None} for rule in firewall["rules"]]
        rule = {"direction": "in", "protocol": "tcp", "port": port, "source_ips": ["0.0.0.0/0", "::/0"]}
        self.set_rules(
            firewall["id"], [*usual, rule] if opens else [each for each in usual if each.get("port") != port]
        )
        yield
        self.set_rules(firewall["id"], usual)

    def set_rules(self, firewall: int, rules: list[dict[str, Any]]) -> None:
        answer = self.world.ask_hetzner("POST", f"firewalls/{firewall}/actions/set_rules", {"rules": rules})
        assert "error" not in answer, answer

    def host_key(self) -> None:
        with self.world.other_host_key():
            self.is_wrong("the server shows another SSH host key", of(self.outputs["serverIpv4"], "SSH"))

    def nginx(self) -> None:
        for broken, (expression, expected) in NGINX.items():
            with self.edited(expression):
                self.is_wrong(broken, expected)

    @contextmanager
    def edited(self, expression: str) -> Iterator[None]:
        """NGINX runs with a configuration that somebody has edited."""
        usual = self.world.host.run("readlink", CONFIGURATION)
        before = self.world.host.read(CONFIGURATION)
        self.world.host.run("sed", "-i", expression, CONFIGURATION)
        assert self.world.host.read(CONFIGURATION) != before, f"{expression} changes nothing"
        self.reload()
        yield
        self.world.host.run("ln", "--symbolic", "--force", "--no-dereference", usual, CONFIGURATION)
        self.reload()

    def reload(self) -> None:
        before = self.workers()
        reload = ("systemctl", "reload", "nginx.service")
        eventually(lambda: self.world.host.run(*reload) == "", "NGINX to reload", timeout=30)
        eventually(lambda: self.workers() and not self.workers() & before, "NGINX's new workers", timeout=30)

    def workers(self) -> set[str]:
        """The workers that take new connections."""
        processes = self.world.host.run("ps", "-C", "nginx", "-o", "pid=,args=").splitlines()
        return {line.split()[0] for line in processes if line.endswith("worker process")}

    def certificates(self) -> None:
        for days, expected in {100: ("certificate's chain",), 3: ("certificate's chain", "certificate's end")}.items():
            self.world.host.run(
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
                *("-days", str(days), "-subj", f"/CN={HEADSCALE}", "-addext", f"subjectAltName=DNS:{HEADSCALE}"),
                *("-out", "/run/nginx/own.pem", "-keyout", "/run/nginx/own.key"),
            )
            self.world.host.run("chown", "nginx", "/run/nginx/own.key")
            own = "s|ssl_certificate .*;|ssl_certificate /run/nginx/own.pem;|; "
            key = "s|ssl_certificate_key .*;|ssl_certificate_key /run/nginx/own.key;|"
            with self.edited(ON_HEADSCALES + own + ON_HEADSCALES + key):
                self.is_wrong(f"a certificate of one's own, for {days} days", of(HEADSCALE, *expected))

    def killed(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.report.step(f"ended by {number.name} while its devices are there, nothing of them is left"):
                process = self.begin_with_devices()
                process.send_signal(number)
                _, errors = process.communicate(timeout=60)
                assert process.returncode == 128 + number, f"{process.returncode}: {errors}"
                self.nothing_is_left()
        with self.report.step("killed, it leaves no process, and the next run removes user and key") as line:
            process = self.begin_with_devices()
            process.kill()
            process.communicate(timeout=60)
            eventually(lambda: not self.daemons(), "its devices to end", timeout=30)
            assert self.users(), "the user is gone already"
            note = self.look("--devices")[JOIN]["note"]
            assert "what a killed run left" in note, note
            self.nothing_is_left()
            line.note = note

    def begin_with_devices(self) -> subprocess.Popen[str]:
        process = self.begin("--devices")
        eventually(lambda: len(self.nodes()) == 2, "both devices to join", timeout=90)
        return process

    def nothing_is_left(self) -> None:
        assert not self.users() and not self.nodes() and not self.daemons()
        keys = [key for key in self.world.headscale.preauth_keys() if key["user"]["name"].startswith(USER)]
        assert not keys, keys

    def users(self) -> list[str]:
        return [user["name"] for user in self.world.headscale.users() if user["name"].startswith(USER)]

    def nodes(self) -> list[str]:
        return [node["name"] for node in self.world.headscale.nodes() if node["name"].startswith("verify-")]

    def daemons(self) -> str:
        with suppress(subprocess.SubprocessError):
            return check(["pgrep", "--full", "tailscaled --tun=userspace-networking --state=mem:"])
        return ""

    def devices(self) -> None:
        with self.no_path():
            self.is_wrong("neither a direct path nor the relay", {PING}, "--devices")
        with self.edited(ON_THE_UIS + "s/|POST|DELETE)/|POST)/"):
            self.is_wrong("user and key cannot be removed", {GONE}, "--devices")
        with self.edited(
            before_devices("~ ^/machine/ { return 404; }") + "; " + ON_HEADSCALES + "s|/ts2021 {|& return 404;|"
        ):
            self.is_wrong("devices cannot join", {JOIN, f"{HEADSCALE}: /ts2021"}, "--devices")
        for words, rules in {
            "does not tell one of the other": [
                {"action": "accept", "src": ["100.64.0.250"], "dst": ["100.64.0.251:*"]}
            ],
            "its end drops the packet": [],
        }.items():
            with self.report.step(f"a ping that the policy forbids is not one that fails: {words}") as line:
                self.set_policy(rules)
                ping = self.look("--devices")[PING]
                assert (ping["verdict"], words in ping["note"]) == ("not checked", True), ping
                line.note = ping["note"]

    @contextmanager
    def no_path(self) -> Iterator[None]:
        """The operator's devices reach neither each other nor the server's relay."""
        with self.edited(before_devices("/derp { return 404; }") + f"; {ON_HEADSCALES}s#|derp|derp/.+##"):
            to_each_other = f"ip daddr {OPERATOR.ipv4} drop; ip6 daddr {OPERATOR.ipv6} drop"
            chain = "type filter hook output priority 0; udp dport 53 accept; meta l4proto != udp accept; "
            check(["nft", f"add table inet no_path {{ chain out {{ {chain}{to_each_other}; }}; }}"])
            yield
            check(["nft", "delete", "table", "inet", "no_path"])

    def set_policy(self, rules: list[dict[str, Any]]) -> None:
        file = self.world.run.path / "policy.hujson"
        file.write_text(json.dumps({"acls": rules}))
        self.world.stack.set("policyFile", str(file))
        self.world.stack.up()
