"""The guards of the host: an address that guesses or floods is banned for a while, and no other one.

Ban times are shortened at the server's console, as an operator could; how often is too often is the product's own.
"""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from rehearsal.internet.network import OPERATOR, Customer
from rehearsal.operator.keys import ssh_key
from rehearsal.people.devices import Device
from rehearsal.people.visitor import Visitor, visitor
from rehearsal.sandbox.processes import check
from rehearsal.sandbox.wait import eventually
from rehearsal.story import HEADSCALE, JOIN_TIMEOUT, UI, Story

STRANGER = Customer("stranger", "198.51.100.66", "2001:db8:1::66")
NEIGHBOUR = Customer("neighbour", "198.51.100.67", "2001:db8:2::67")
# The operator and the sibling have IPv6 addresses of the stranger's network.
SIBLING = Customer("sibling", "198.51.100.68", "2001:db8:1::68")
NETWORK = "2001:db8:1::/64"
PEOPLE, DEVICES, API = f"https://{HEADSCALE}/health", f"https://{HEADSCALE}/key", f"https://{UI}/api/v1/user"
SSHD, LIMIT, KEYS = "sshd", "nginx-limit-people", "headscale-api-key"
WRONG = "hskey-api-wrong"
WEB = (80, 443)
SHORT = 30
# Lines that fail2ban still reads when somebody is banned already can prolong his ban, twice as long each time.
LONGEST = 4 * SHORT
NOTICE = 20.0


class Guards(Story):
    """Each jail is filled for real, is seen to hold, and is seen to open again."""

    def tell(self) -> None:
        self.world.stack.set("adminNetworks", f"{OPERATOR.ipv4}/32", f"{OPERATOR.ipv6}/128", as_list=True)
        self.up()
        bundle = self.world.ca_bundle
        with (
            self.joined("laptop", "office") as (laptop, office),
            self.relayed() as (cafe, train),
            visitor(STRANGER, bundle) as stranger,
            visitor(NEIGHBOUR, bundle) as neighbour,
            visitor(SIBLING, bundle) as sibling,
            self.short(LIMIT),
            self.short(KEYS),
        ):
            self.closed(stranger)
            self.limits(laptop, office, stranger, neighbour, sibling)
            self.old_key(neighbour, sibling)
            self.api_keys((laptop, office), (cafe, train))
            self.operator()
            self.logins(stranger, neighbour)
            self.reboot(stranger)

    @contextmanager
    def relayed(self) -> Iterator[tuple[Device, Device]]:
        """Two devices that find each other through the server's relay only."""
        with self.world.device("cafe", nat="no-stun") as cafe, self.world.device("train", nat="no-stun") as train:
            with self.report.step("cafe and train join, and talk through the server's relay"):
                for device in (cafe, train):
                    device.join(self.outputs["joinCommand"])
                eventually(lambda: cafe.ping(train.addresses()[0]), "cafe pings train", JOIN_TIMEOUT)
                assert cafe.path_to(train) == "relay"
            yield cafe, train

    def behind(self, device: Device) -> Visitor:
        """Somebody at the device's home, who shares its public address."""
        return Visitor(self.world.ca_bundle, f"dev-{device.name}")

    def client(self, *argv: str) -> str:
        return self.world.host.run("fail2ban-client", *argv)

    def banned(self, jail: str) -> dict[str, int]:
        """The banned addresses with how long each is banned, in seconds."""
        lines = self.client("get", jail, "banip", "--with-time").splitlines()
        return {match[1]: int(match[2]) for line in lines if (match := re.match(r"(\S+)\s.* \+ (\d+) = ", line))}

    def await_ban(self, jail: str, *addresses: str) -> dict[str, int]:
        def look() -> dict[str, int]:
            bans = self.banned(jail)
            assert set(addresses) <= bans.keys(), f"{jail} holds {sorted(bans)}"
            return bans

        return eventually(look, f"{jail} to ban {', '.join(addresses)}", NOTICE)

    def await_end(self, jail: str, *addresses: str) -> None:
        def look() -> bool:
            bans = set(addresses) & self.banned(jail).keys()
            assert not bans, f"{jail} still holds {sorted(bans)}"
            return True

        eventually(look, f"{jail} to let {', '.join(addresses)} go", LONGEST + NOTICE)

    def has_open(self, who: Visitor, ports: set[int], *addresses: str) -> None:
        """True where exactly these ports are open to somebody, soon: fail2ban lists a ban before nft has it."""

        name = who.place or "the operator"

        def look() -> bool:
            for address in addresses or self.addresses:
                matches = {port for port in (22, *WEB) if who.reaches(address, port)}
                assert matches == ports, f"{name} reaches {sorted(matches)} of {address}"
            return True

        eventually(look, f"{name} to reach {sorted(ports)}", NOTICE)

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

    def closed(self, stranger: Visitor) -> None:
        with self.report.step("a stranger reaches TCP 80 and 443, and SSH only who is in an admin network") as line:
            self.has_open(stranger, {*WEB})
            self.has_open(Visitor(self.world.ca_bundle), {22, *WEB}, self.addresses[0])
            line.note = ", ".join(self.addresses)

    def limits(self, laptop: Device, office: Device, stranger: Visitor, neighbour: Visitor, sibling: Visitor) -> None:
        ipv4, ipv6 = self.addresses
        with self.report.step("an office that runs into the limit for devices is refused some requests") as line:
            refused = self.behind(office).ask(DEVICES, address=ipv4, times=1500).count(429)
            assert refused > 200, f"only {refused} of 1500 were refused"
            line.note = f"{refused} of 1500 refused"
        with laptop.pinging(office.addresses()[0]) as pings:
            with self.report.step("a stranger who goes on at the limit for people is banned, IPv4 and IPv6") as line:
                for address in self.addresses:
                    stranger.ask(PEOPLE, address=address, times=400)
                banned = self.await_ban(LIMIT, STRANGER.ipv4, NETWORK)
                line.note = ", ".join(f"{who} for {time} s" for who, time in sorted(banned.items()))
            with self.report.step("his whole IPv6 network is closed, but for the operator's address in it"):
                self.has_open(sibling, set(), ipv6)
                self.has_open(sibling, {*WEB}, ipv4)
                self.has_open(Visitor(self.world.ca_bundle), {22, *WEB})
            with self.report.step("he gets no TCP connection any more; a neighbour and the office do"):
                self.has_open(stranger, set())
                self.has_open(neighbour, {*WEB})
                assert self.behind(office).ask(PEOPLE, address=ipv4) == [200]
                assert set(self.banned(LIMIT)) == {STRANGER.ipv4, NETWORK}
            with self.report.step("the ban ends by itself"):
                self.await_end(LIMIT, STRANGER.ipv4, NETWORK)
                self.has_open(stranger, {*WEB})
            with self.report.step("who does it again is banned for longer") as line:
                stranger.ask(PEOPLE, address=ipv4, times=400)
                again = self.await_ban(LIMIT, STRANGER.ipv4)[STRANGER.ipv4]
                assert again > banned[STRANGER.ipv4], f"{banned[STRANGER.ipv4]} s, then {again} s"
                line.note = f"{banned[STRANGER.ipv4]} s, then {again} s"
        with self.report.step("devices go on meanwhile") as line:
            assert pings.lost == 0, f"{pings.lost} of {pings.sent} pings were lost"
            line.note = f"{pings.sent} pings between the devices, none lost"

    def old_key(self, neighbour: Visitor, sibling: Visitor) -> None:
        with self.report.step("a request without a key is refused, and counts for no guess") as line:
            statuses = sibling.ask(API, address=self.addresses[0], times=90, patiently=True)
            assert statuses.count(401) > 50, statuses
            line.note = f"{statuses.count(401)} refused"
        with self.report.step("a browser with an old key is refused twenty times, and not banned"):
            statuses = neighbour.ask(API, address=self.addresses[0], times=20, key=WRONG)
            assert statuses == [401] * 20, statuses

    def api_keys(self, direct: tuple[Device, Device], relayed: tuple[Device, Device]) -> None:
        guessers = [direct[1], relayed[1]]
        addresses = [public_address(device) for device in guessers]
        with direct[0].pinging(direct[1].addresses()[0]) as pings:
            with self.report.step("who guesses API keys is banned, although the log is rotated meanwhile") as line:
                before = self.guess_keys(guessers, times=40)
                assert max(before) < 50, f"{before} guesses before the log was rotated"
                self.rotate()
                after = self.guess_keys(guessers, times=80)
                assert set(self.await_ban(KEYS, *addresses)) == set(addresses)
                line.note = f"{', '.join(addresses)}, of {before} guesses before and {after} after"
            with self.report.step("a device behind a banned address loses the server: what is relayed stands still"):
                for device in guessers:
                    self.has_open(self.behind(device), set(), self.addresses[0])
                silent = relayed[0].run(["ping", "-n", "-c", "3", "-W", "1", relayed[1].addresses()[0]])
                assert silent.returncode == 1, silent.stdout
            with self.report.step("the ban ends by itself; the relay works again, all devices are online"):
                self.await_end(KEYS, *addresses)
                eventually(lambda: relayed[0].ping(relayed[1].addresses()[0]), "cafe pings train", JOIN_TIMEOUT)
                eventually(self.all_online, "all devices to be online", JOIN_TIMEOUT)
        with self.report.step("a device behind a banned address keeps its direct connections") as line:
            assert pings.lost == 0, f"{pings.lost} of {pings.sent} pings were lost"
            line.note = f"{pings.sent} pings, none lost"

    def guess_keys(self, guessers: list[Device], times: int) -> list[int]:
        """All at once; how many guesses each had answered."""

        def guess(device: Device) -> int:
            asked = self.behind(device).ask(API, address=self.addresses[0], times=times, key=WRONG, patiently=True)
            return asked.count(401)

        with ThreadPoolExecutor() as pool:
            return list(pool.map(guess, guessers))

    def rotate(self) -> None:
        """Rotate nginx's log as nixpkgs' logrotate does."""
        self.world.host.run("mv", "/var/log/nginx/access.log", "/var/log/nginx/access.log.1")
        self.world.host.run("sh", "-c", "kill -USR1 $(cat /run/nginx/nginx.pid)")

    def all_online(self) -> bool:
        nodes = self.world.headscale.nodes()
        offline = [node["name"] for node in nodes if not node.get("online")]
        assert not offline, f"offline: {offline}"
        return True

    def operator(self) -> None:
        operator, ipv4 = Visitor(self.world.ca_bundle), self.addresses[0]
        with self.report.step("the operator's network does all of it and is never banned") as line:
            operator.ask(PEOPLE, address=ipv4, times=400)
            operator.ask(API, address=ipv4, times=150, key=WRONG, patiently=True)
            self.guess_logins(operator, ipv4, times=6)
            for jail in (LIMIT, KEYS, SSHD):
                eventually(partial(self.ignored, jail, OPERATOR.ipv4), f"{jail} to see him", NOTICE)
            self.has_open(operator, {22, *WEB}, ipv4)
            line.note = "; ".join(
                f"{jail}: {self.ignored(jail, OPERATOR.ipv4)} ignored" for jail in (SSHD, LIMIT, KEYS)
            )

    def ignored(self, jail: str, address: str) -> int:
        """The number of an address's failures that the jail saw and did not count."""
        journal = self.world.host.run("journalctl", "--boot", "--unit", "fail2ban", "--output", "cat")
        return len(re.findall(rf"\[{jail}\] Ignore {re.escape(address)} by ip", journal))

    def logins(self, stranger: Visitor, neighbour: Visitor) -> None:
        with self.report.step("without admin networks anybody reaches SSH"):
            self.await_end(LIMIT, STRANGER.ipv4)
            self.world.stack.set("adminNetworks", as_list=True)
            self.world.stack.up()
            self.has_open(neighbour, {22, *WEB})
        with self.report.step("who guesses logins is banned from SSH, IPv4 and IPv6, and from nothing else") as line:
            for address in self.addresses:
                self.guess_logins(stranger, address, times=3)
            banned = self.await_ban(SSHD, STRANGER.ipv4, str(STRANGER.ipv6))
            self.has_open(stranger, {*WEB})
            self.has_open(neighbour, {22, *WEB})
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
            before = self.world.host.boot_id()
            self.world.machines.reboot(self.world.server_id)
            eventually(lambda: self.world.host.boot_id() != before, "the server to come back", JOIN_TIMEOUT)
            banned = self.await_ban(SSHD, STRANGER.ipv4, str(STRANGER.ipv6))
            self.has_open(stranger, {*WEB})
            line.note = ", ".join(sorted(banned))
            self.client("set", SSHD, "unbanip", STRANGER.ipv4, str(STRANGER.ipv6))
            self.has_open(stranger, {22, *WEB})


def public_address(device: Device) -> str:
    """The address of the device's router on the internet."""
    (link,) = json.loads(check(["ip", "-n", f"nat-{device.name}", "-json", "-4", "address", "show", "wan"]))
    return str(link["addr_info"][0]["local"])
