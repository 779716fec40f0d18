"""The guards of the host: who guesses or floods is banned for a while, and nobody else is, whoever shares his address.

Ban times are shortened at the server's console, as an operator could; how often is too often is the product's own.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rehearsal.devices import Device
from rehearsal.keys import ssh_key
from rehearsal.network import OPERATOR, Customer
from rehearsal.story import HEADSCALE, JOIN_TIMEOUT, UI, Story
from rehearsal.visitor import Visitor, visitor
from rehearsal.wait import eventually

STRANGER = Customer("stranger", "198.51.100.66", "2001:db8:1::66")
NEIGHBOUR = Customer("neighbour", "198.51.100.67", "2001:db8:1::67")
PEOPLE, DEVICES, API = f"https://{HEADSCALE}/health", f"https://{HEADSCALE}/key", f"https://{UI}/api/v1/user"
SSHD, LIMIT, KEYS = "sshd", "nginx-limit-people", "headscale-api-key"
WEB = (80, 443)
SHORT = 15
NOTICE = 20.0


class Guards(Story):
    """Each jail is filled for real, is seen to hold, and is seen to open again."""

    def tell(self) -> None:
        self.up()
        bundle = self.world.ca_bundle
        with (
            self.joined("laptop", "office") as (laptop, office),
            visitor(STRANGER, bundle) as stranger,
            visitor(NEIGHBOUR, bundle) as neighbour,
        ):
            self.closed(stranger)
            self.limits(laptop, office, stranger, neighbour)
            self.api_keys(laptop, office, neighbour)
            self.operator()
            self.logins(stranger, neighbour)
            self.reboot(stranger)

    def at_office(self) -> Visitor:
        """Somebody in the home network of the device `office`, behind the same address."""
        return Visitor(self.world.ca_bundle, "dev-office")

    # -- what is seen -------------------------------------------------------------------------------------------

    def client(self, *argv: str) -> str:
        return self.world.console("fail2ban-client", *argv)

    def banned(self, jail: str) -> dict[str, int]:
        """The banned addresses with how long each is banned, in seconds."""
        lines = self.client("get", jail, "banip", "--with-time").splitlines()
        return {found[1]: int(found[2]) for line in lines if (found := re.match(r"(\S+)\s.* \+ (\d+) = ", line))}

    def await_ban(self, jail: str, *addresses: str) -> dict[str, int]:
        def look() -> dict[str, int]:
            found = self.banned(jail)
            assert set(addresses) <= found.keys(), f"{jail} holds {sorted(found)}"
            return found

        return eventually(look, f"{jail} to ban {', '.join(addresses)}", NOTICE)

    def await_end(self, jail: str, *addresses: str) -> None:
        def look() -> bool:
            found = set(addresses) & self.banned(jail).keys()
            assert not found, f"{jail} still holds {sorted(found)}"
            return True

        eventually(look, f"{jail} to let {', '.join(addresses)} go", SHORT + NOTICE)

    def open_ports(self, who: Visitor, address: str) -> set[int]:
        return {port for port in (22, *WEB) if who.reaches(address, port)}

    @property
    def addresses(self) -> list[str]:
        return [self.outputs["serverIpv4"], self.outputs["serverIpv6"]]

    @contextmanager
    def short(self, jail: str) -> Iterator[None]:
        """Bans that begin in this block are short."""
        usual = self.client("get", jail, "bantime")
        self.client("set", jail, "bantime", str(SHORT))
        try:
            yield
        finally:
            self.client("set", jail, "bantime", usual)

    # -- the firewall -------------------------------------------------------------------------------------------

    def closed(self, stranger: Visitor) -> None:
        with self.report.step("a stranger reaches TCP 80 and 443, and SSH only who is in an admin network") as line:
            operator = Visitor(self.world.ca_bundle)
            for address in self.addresses:
                assert self.open_ports(stranger, address) == {*WEB}, address
            assert self.open_ports(operator, self.addresses[0]) == {22, *WEB}
            line.note = ", ".join(self.addresses)

    # -- the limits ---------------------------------------------------------------------------------------------

    def limits(self, laptop: Device, office: Device, stranger: Visitor, neighbour: Visitor) -> None:
        ipv4, ipv6 = self.addresses
        with self.report.step("an office that runs into the limit for devices is refused some requests") as line:
            refused = self.at_office().ask(DEVICES, address=ipv4, times=800).count(429)
            assert refused > 200, f"only {refused} of 800 were refused"
            line.note = f"{refused} of 800 refused"
        with self.short(LIMIT), laptop.pinging(office.addresses()[0]) as pings:
            with self.report.step("a stranger who goes on at the limit for people is banned, IPv4 and IPv6") as line:
                for address in self.addresses:
                    stranger.ask(PEOPLE, address=address, times=400)
                banned = self.await_ban(LIMIT, STRANGER.ipv4, str(STRANGER.ipv6))
                line.note = ", ".join(f"{who} for {time} s" for who, time in sorted(banned.items()))
            with self.report.step("he gets no TCP connection any more; a neighbour and the office do"):
                assert all(self.open_ports(stranger, address) == set() for address in (ipv4, ipv6))
                assert all(self.open_ports(neighbour, address) == {*WEB} for address in (ipv4, ipv6))
                assert self.at_office().ask(PEOPLE, address=ipv4) == [200]
                assert set(self.banned(LIMIT)) == {STRANGER.ipv4, STRANGER.ipv6}
            with self.report.step("the ban ends by itself") as line:
                self.await_end(LIMIT, STRANGER.ipv4, str(STRANGER.ipv6))
                assert all(stranger.ask(PEOPLE, address=address) == [200] for address in (ipv4, ipv6))
            with self.report.step("who does it again is banned for longer") as line:
                stranger.ask(PEOPLE, address=ipv4, times=400)
                again = self.await_ban(LIMIT, STRANGER.ipv4)[STRANGER.ipv4]
                assert again > banned[STRANGER.ipv4], f"{banned[STRANGER.ipv4]} s, then {again} s"
                line.note = f"{banned[STRANGER.ipv4]} s, then {again} s"
        with self.report.step("devices go on meanwhile") as line:
            assert pings.lost == 0, f"{pings.lost} of {pings.sent} pings were lost"
            line.note = f"{pings.sent} pings between the devices, none lost"

    # -- the API ------------------------------------------------------------------------------------------------

    def api_keys(self, laptop: Device, office: Device, neighbour: Visitor) -> None:
        guest, ipv4 = self.at_office(), self.addresses[0]
        with self.report.step("a browser with an old key is refused twenty times and not banned") as line:
            statuses = neighbour.ask(API, address=ipv4, times=20, key="hskey-api-old")
            assert statuses == [401] * 20, statuses
        with self.short(KEYS), laptop.pinging(office.addresses()[0]) as pings:
            with self.report.step("who guesses API keys is banned, while the log is rotated as well") as line:
                guest.ask(API, address=ipv4, times=40, key="hskey-api-wrong", patiently=True)
                self.rotate()
                guest.ask(API, address=ipv4, times=80, key="hskey-api-wrong", patiently=True)
                banned = self.await_ban(KEYS, self.public(office))
                assert set(banned) == {self.public(office)}
                line.note = ", ".join(banned)
            with self.report.step("a device behind the banned address loses the server, not the other devices") as line:
                assert self.open_ports(guest, ipv4) == set()
                line.note = f"{self.node(office)} to headscale"
            with self.report.step("the ban ends by itself, and the device finds the server again") as line:
                self.await_end(KEYS, self.public(office))
                eventually(lambda: office.netcheck()["RegionLatency"], "the relay to answer", JOIN_TIMEOUT)
                eventually(lambda: self.node(office) == "online", "office to be online", JOIN_TIMEOUT)
        with self.report.step("its connection to the other device was there all the time") as line:
            assert pings.lost == 0, f"{pings.lost} of {pings.sent} pings were lost"
            line.note = f"{pings.sent} pings, none lost"

    def rotate(self) -> None:
        """What nixpkgs' logrotate does to nginx's log."""
        self.world.console("mv", "/var/log/nginx/access.log", "/var/log/nginx/access.log.1")
        self.world.console("sh", "-c", "kill -USR1 $(cat /run/nginx/nginx.pid)")

    def public(self, device: Device) -> str:
        """The address of the device's router."""
        (found,) = re.findall(r"\d+(?:\.\d+){3}", device.netcheck()["GlobalV4"])
        return found

    def node(self, device: Device) -> str:
        nodes = json.loads(self.world.console("headscale", "nodes", "list", "--output", "json"))
        return next("online" if node.get("online") else "offline" for node in nodes if node["name"] == device.name)

    # -- the operator -------------------------------------------------------------------------------------------

    def operator(self) -> None:
        operator, ipv4 = Visitor(self.world.ca_bundle), self.addresses[0]
        with self.report.step("the operator's network does all of it and is never banned") as line:
            operator.ask(PEOPLE, address=ipv4, times=400)
            operator.ask(API, address=ipv4, times=150, key="hskey-api-wrong", patiently=True)
            self.guess_logins(operator, ipv4, times=6)
            for jail in (LIMIT, KEYS, SSHD):
                eventually(lambda jail=jail: self.ignored(jail, OPERATOR.ipv4), f"{jail} to see him", NOTICE)
            assert self.open_ports(operator, ipv4) == {22, *WEB}
            line.note = "; ".join(
                f"{jail}: {self.ignored(jail, OPERATOR.ipv4)} ignored" for jail in (SSHD, LIMIT, KEYS)
            )

    def ignored(self, jail: str, address: str) -> int:
        """How many of an address's failures the jail saw and did not count."""
        journal = self.world.console("journalctl", "--boot", "--unit", "fail2ban", "--output", "cat")
        return len(re.findall(rf"\[{jail}\] Ignore {re.escape(address)} by ip", journal))

    # -- SSH ----------------------------------------------------------------------------------------------------

    def logins(self, stranger: Visitor, neighbour: Visitor) -> None:
        ipv4, ipv6 = self.addresses
        with self.report.step("without admin networks anybody reaches SSH"):
            self.world.stack.set("adminNetworks", as_list=True)
            self.world.stack.up()
            assert neighbour.reaches(ipv4, 22)
        with self.report.step("who guesses logins is banned from SSH, IPv4 and IPv6, and from nothing else") as line:
            for address in (ipv4, ipv6):
                self.guess_logins(stranger, address, times=3)
            banned = self.await_ban(SSHD, STRANGER.ipv4, str(STRANGER.ipv6))
            assert all(self.open_ports(stranger, address) == {*WEB} for address in (ipv4, ipv6))
            assert all(self.open_ports(neighbour, address) == {22, *WEB} for address in (ipv4, ipv6))
            line.note = ", ".join(f"{who} for {time} s" for who, time in sorted(banned.items()))

    def guess_logins(self, who: Visitor, address: str, times: int) -> None:
        key = self.wrong_key()
        for user in ("admin", "root", "nobody", "ubuntu", "root", "git")[:times]:
            assert "Permission denied (publickey)" in who.log_in(user, address, key)

    def wrong_key(self) -> Path:
        path = self.world.run.path / "wrong-key"
        if not path.exists():
            ssh_key(path)
        return path

    def reboot(self, stranger: Visitor) -> None:
        with self.report.step("a ban outlives a reboot of the server, and ends when the operator says so") as line:
            before = self.boot_id()
            self.world.machines.reboot(self.world.server_id)
            eventually(lambda: self.boot_id() != before, "the server to come back", JOIN_TIMEOUT)
            banned = self.await_ban(SSHD, STRANGER.ipv4, str(STRANGER.ipv6))
            assert not stranger.reaches(self.addresses[0], 22)
            line.note = ", ".join(sorted(banned))
            self.client("set", SSHD, "unbanip", STRANGER.ipv4)
            assert stranger.reaches(self.addresses[0], 22)

    def boot_id(self) -> str:
        return self.world.console("cat", "/proc/sys/kernel/random/boot_id")
