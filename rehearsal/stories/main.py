"""The main job, told as an operator would live it: create, look, join devices, do nothing, change, fail, destroy.

Each step proves one thing and says what it saw. Checks look from where the thing matters: from the operator's network,
from a device, or from the server's console.
"""

import json
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from rehearsal.operator.keys import public_key
from rehearsal.operator.stack import Outcome
from rehearsal.people import stun
from rehearsal.people.devices import Device
from rehearsal.report import StepLine
from rehearsal.sandbox.wait import Gap, eventually, gaps
from rehearsal.setup import image
from rehearsal.story import DEPLOY, HEADSCALE, JOIN_TIMEOUT, UI, Story
from rehearsal.world import scan_host_key

UNITS = ("headscale.service", "nginx.service", "sshd.service")


class Main(Story):
    """The story that a newcomer runs first."""

    def tell(self) -> None:
        self.create()
        self.names_and_certificates()
        self.https()
        self.stun()
        with (
            self.world.device("laptop") as laptop,
            self.world.device("phone") as phone,
            self.world.device("cafe", nat="no-stun") as cafe,
            self.world.device("train", nat="no-stun") as train,
        ):
            self.join(laptop, phone, cafe, train)
            self.talk(laptop, phone)
            self.relay(cafe, train)
            self.nothing_changes()
            self.change(laptop, phone)
            self.failed_confirm()
            self.there_and_back()
        self.destroy()

    def create(self) -> None:
        with self.report.step("`pulumi up` creates every resource, first user and key included") as line:
            self.begun = time.monotonic()
            outcome = self.world.stack.up()
            self.outputs = self.world.stack.outputs()
            line.note = f"{len(outcome.operations)} resources"
        with self.report.step("the server has the host key that the stack gave it") as line:
            line.note = self.host_key()
        with self.report.step("a server with another host key is refused") as line:
            line.note = self.impostor_is_refused()
        with self.report.step("the state on the operator's disk holds no secret in clear") as line:
            line.note = f"{self.world.look_for_secrets(self.outputs)} secrets looked for"
        with self.report.step("the server became NixOS by the product's script and a reboot") as line:
            line.note = self.became_nixos()
        with self.report.step(f"headscale {image.pinned('headscale')}, nginx and sshd run as units") as line:
            line.note = self.units_run()

    def host_key(self) -> str:
        pinned = public_key(self.world.secrets.ssh_host_key)
        served = scan_host_key(self.outputs["serverIpv4"])
        assert served == pinned, f"the server shows {served}, not {pinned}"
        return served.split()[0]

    def impostor_is_refused(self) -> str:
        """The address answers with a key that is not the stack's."""
        with self.world.other_host_key():
            output = self.world.stack.preview().output
        assert "Host key is not trusted" in output, output
        return "host key is not trusted"

    def became_nixos(self) -> str:
        host = self.world.host
        assert "\nID=nixos\n" in host.read("/etc/os-release")
        current = host.system("current")
        assert current == host.boot_default()
        assert f"init={current}/init" in host.read("/boot/grub/grub.cfg"), "the boot default is another system"
        assert host.run("sh", "-c", "ls -d /old-root 2>/dev/null || true") == "", "Debian's remains are still there"
        late = self.world.dialled_late()
        gaps.append(Gap(what="NixOS answers SSH", waited=0.0, late=late))
        return f"{current[11:19]}...; it answered SSH {late:.1f} s before `pulumi up` dialled again"

    def units_run(self) -> str:
        for unit in UNITS:
            assert self.world.host.run("systemctl", "is-active", unit) == "active", unit
        version = self.world.headscale.version()
        assert image.pinned("headscale") in version, version
        failed = self.world.host.failed_units()
        assert failed == "", f"failed units: {failed}"
        return version.splitlines()[0]

    def names_and_certificates(self) -> None:
        addresses = {self.outputs["serverIpv4"], self.outputs["serverIpv6"]}
        with self.report.step("both names resolve, as Cloudflare's records say") as line:
            for name in (HEADSCALE, UI):
                matches = {entry[4][0] for entry in socket.getaddrinfo(name, 443)}
                assert matches == addresses, f"{name} leads to {matches}, not {addresses}"
            line.note = ", ".join(sorted(addresses))
        with self.report.step("both names have certificates that pebble issued over HTTP-01") as line:
            line.note = ", ".join(sorted({self.issuer(name) for name in (HEADSCALE, UI)}))

    def issuer(self, name: str) -> str:
        with (
            socket.create_connection((name, 443), timeout=10) as plain,
            self.trust().wrap_socket(plain, server_hostname=name) as tls,
        ):
            certificate: dict[str, Any] = tls.getpeercert() or {}
        return str(next(value for ((key, value),) in certificate["issuer"] if key == "commonName"))

    def https(self) -> None:
        with self.report.step("https answers with headscale's bodies; / and unknown paths are not blank pages"):
            assert json.loads(self.get(f"https://{HEADSCALE}/health")[1]) == {"status": "pass"}
            assert "publicKey" in self.get(f"https://{HEADSCALE}/key?v=130")[1]
            assert self.get(f"https://{HEADSCALE}/no-such-path")[0] == 404
        with self.report.step("the API answers on the web interface's name, to the key of the SOPS file only"):
            assert self.get(f"https://{UI}/api/v1/user")[0] == 401
            status, body = self.get(f"https://{UI}/api/v1/user", self.outputs["apiKey"])
            assert status == 200, f"{status}: {body}"
            assert [user["name"] for user in json.loads(body)["users"]] == self.outputs["users"]
        with self.report.step("the API is closed on headscale's name, with a key as well"):
            assert self.get(f"https://{HEADSCALE}/api/v1/user", self.outputs["apiKey"])[0] == 404
        with self.report.step("the web interface is served") as line:
            status, page = self.get(self.outputs["uiUrl"])
            assert status == 200 and "<script" in page, f"{status}: {page[:200]}"
            self.say_whose_page(line)

    def say_whose_page(self, line: StepLine) -> None:
        if not self.world.prepared.has_ui_release:
            line.verdict = "not run"
            line.note = "the release of headscale-ui cannot be downloaded here; a stand-in page is served"

    def stun(self) -> None:
        with self.report.step("STUN answers on UDP 3478 to Tailscale's requests, and to no others") as line:
            address = self.outputs["serverIpv4"]
            mapped = stun.ask(address, stun.request(), timeout=5)
            assert mapped == "198.51.100.10", f"STUN saw us as {mapped}"
            assert stun.ask(address, stun.request(software=b""), timeout=0.3) is None
            assert stun.ask(address, stun.request(fingerprint=False), timeout=0.3) is None
            line.note = f"saw the operator as {mapped}"

    def join(self, laptop: Device, *others: Device) -> None:
        with self.report.step("the output joinCommand joins a first device") as line:
            laptop.join(self.outputs["joinCommand"])
            line.note = f"online {time.monotonic() - self.begun:.1f} s after `pulumi up` was typed"
        with self.report.step("the same key joins three more, at once; headscale lists all") as line:
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda device: device.join(self.outputs["joinCommand"]), others))
            nodes = self.world.headscale.nodes()
            assert {node["name"] for node in nodes} == {device.name for device in (laptop, *others)}, nodes
            line.note = ", ".join(sorted(node["name"] for node in nodes))
        with self.report.step("`tailscale netcheck` on a device finds the server's DERP region and STUN") as line:
            line.note = self.netcheck(laptop)

    def netcheck(self, device: Device) -> str:
        report = device.netcheck()
        assert report["UDP"] is True, report
        assert report["RegionLatency"], f"no region answers: {report}"
        return f"region {report['PreferredDERP']}"

    def talk(self, laptop: Device, phone: Device) -> None:
        with self.report.step("a device pings another over its VPN addresses, IPv4 and IPv6") as line:
            for address in laptop.addresses():
                eventually(partial(phone.ping, address), f"phone pings {address}", JOIN_TIMEOUT)
            line.note = ", ".join(laptop.addresses())
        with self.report.step("MagicDNS resolves the other's name") as line:
            line.note = eventually(lambda: phone.resolve("laptop.ts.example.org"), "MagicDNS", JOIN_TIMEOUT)
            assert line.note in laptop.addresses(), line.note
        with self.report.step("two easy NATs: the path becomes direct through STUN") as line:
            line.note = self.path_is(phone, laptop, "direct")

    def path_is(self, device: Device, peer: Device, expected: str) -> str:
        def look() -> str:
            path = device.path_to(peer)
            assert path == expected, f"the path is {path}"
            return path

        return eventually(look, f"a {expected} path from {device.name} to {peer.name}", JOIN_TIMEOUT)

    def relay(self, cafe: Device, train: Device) -> None:
        with self.report.step("the same NATs with UDP 3478 blocked: the server's DERP relays") as line:
            eventually(lambda: cafe.ping(train.addresses()[0]), "cafe pings train", JOIN_TIMEOUT)
            line.note = self.path_is(cafe, train, "relay")

    def nothing_changes(self) -> None:
        with self.report.step("a second `pulumi up` does nothing to any resource, and writes nothing on the host"):
            before = self.world.host_snapshot()
            assert_untouched(self.world.stack.up())
            after = self.world.host_snapshot()
            assert after == before, f"changed on the host: {sorted(set(after) ^ set(before))[:10]}"
        with self.report.step("`pulumi preview --expect-no-changes` exits 0"):
            assert_untouched(self.world.stack.preview("--expect-no-changes"))
        with self.report.step("`scripts/doctor` finds nothing that fails, and nothing left over") as line:
            line.note = self.world.stack.doctor("198.51.100.10").splitlines()[-1]

    def change(self, laptop: Device, phone: Device) -> None:
        with self.report.step("a changed value is pushed, deployed, confirmed; nothing else is touched") as line:
            self.world.stack.set("extraRecords", "grafana.ts.example.org 100.64.0.9", as_list=True)
            with phone.pinging(laptop.addresses()[0]) as pings:
                outcome = self.world.stack.up()
            assert outcome.changed() == dict.fromkeys(DEPLOY, "update"), outcome.changed()
            assert pings.lost == 0, f"{pings.lost} of {pings.sent} pings between the devices were lost"
            line.note = f"{pings.sent} pings between the devices, none lost"
        with self.report.step("the devices know the change") as line:
            line.note = eventually(lambda: phone.resolve("grafana.ts.example.org"), "new record", JOIN_TIMEOUT)
            assert line.note == "100.64.0.9", line.note

    def failed_confirm(self) -> None:
        self.world.stack.set("extraRecords", as_list=True)
        with self.report.step("a confirm that fails, fails `pulumi up`"), self.world.boot_loader_read_only():
            self.world.stack.up(expect=1)
        with self.report.step("after it the next `pulumi up` deploys in full") as line:
            line.note = self.deploys_once(self.world.stack.up)

    def there_and_back(self) -> None:
        with self.report.step("A -> B -> A: a return to what was confirmed before is a deploy too") as line:
            self.world.stack.set("extraRecords", "grafana.ts.example.org 100.64.0.9", as_list=True)
            there = self.deploys_once(self.world.stack.up)
            self.world.stack.set("extraRecords", as_list=True)
            line.note = f"{there}, {self.deploys_once(self.world.stack.up)}"

    def deploys_once(self, up: Callable[[], Outcome]) -> str:
        before = self.world.host.deploys_begun()
        outcome = up()
        assert outcome.changed() == dict.fromkeys(DEPLOY, "update"), outcome.changed()
        assert self.world.host.deploys_begun() == before + 1
        return f"deploy {before + 1} confirmed as generation {self.world.stack.outputs()['generation']}"

    def destroy(self) -> None:
        with self.report.step("protected, neither Pulumi nor Hetzner deletes the server") as line:
            self.world.stack.set("protect", "true")
            self.world.stack.up()
            assert "protect" in self.world.stack.destroy(expect=1).output
            line.note = self.world.delete_server()
            assert line.note, "Hetzner deleted a server that the stack protects"
            self.world.stack.set("protect", "false")
            self.world.stack.up()
        with self.report.step("`pulumi destroy` leaves no server, record, key or address"):
            self.world.stack.destroy()
            assert self.world.leftovers() == []
        with self.report.step("the clouds were asked nothing that the emulators do not know"):
            assert self.world.unexpected() == []


def assert_untouched(outcome: Outcome) -> None:
    assert outcome.changed() == {}, f"changes: {outcome.changed()}"
