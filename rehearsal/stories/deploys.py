"""No deploy, however wrong, costs the server, its data or the way in: each way to fail, while devices ping each other.

Another version of headscale is played by the pinned one that calls itself otherwise and changes its database.
"""

import json
import ssl
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from rehearsal.edits import edited, open_for_edits
from rehearsal.story import DEPLOY, HEADSCALE, JOIN_TIMEOUT, Story
from rehearsal.wait import eventually

Change = tuple[str, str, str]
DEPLOY_SH = "/etc/nixos/remote/deploy.sh"
NO_SSHD = ("ssh.nix", "services.openssh = {\n    enable = true;", "services.openssh = {\n    enable = false;")
NO_SSH_PORT = ("network.nix", "extraInputRules = ''", "extraInputRules = ''\n      tcp dport 22 drop")
OTHER_NGINX = ("nginx.nix", "client_body_timeout 10s;", "client_body_timeout 11s;")
BAD_NGINX = ("nginx.nix", "client_header_timeout 10s;", "client_header_timeout ten;")
BAD_POLICY = ("policy.hujson", '"dst": ["*:*"]', '"dst": ["group:nobody-made:*"]')
NO_MAP = ("derp-map.nix", "urls = [ ];", 'urls = [ "https://192.0.2.1/" ];')
BAD_NIX = ("nginx.nix", "enable = true;", "enable = tru;")
SEARCH_DOMAIN = 'override_local_dns = false; dns.search_domains = [ "example.org" ];'
RESTARTS_HEADSCALE = ("headscale.nix", "override_local_dns = false;", SEARCH_DOMAIN)
EVERYBODY = '"src": ["100.64.0.0/10", "fd7a:115c:a1e0::/48"]'
OTHER_VERSION = ("headscale.nix", '"headscale/version".text = package.version;', '"headscale/version".text = "0.30.0";')
# headscale starts only on tables that it knows, so what a later version would change is played by a row.
MIGRATE = "sqlite3 ${state}/db.sqlite \"insert or ignore into users (id, name) values (999, 'later')\""
MIGRATION = (
    "headscale.nix",
    "systemd.services.headscale = {",
    f"systemd.services.headscale = {{ path = [ pkgs.sqlite ]; preStart = ''{MIGRATE}'';",
)
YIELDING = ["CPUWeight=20", "IOWeight=20", "OOMScoreAdjust=500"]
USERS_AND_NODES = (
    "select given_name, ipv4, node_key, user_id from nodes union all select name, id, '', '' from users order by 1"
)


class Deploys(Story):
    """Wrong configurations, cut connections, reboots; after each the next right `pulumi up` deploys."""

    def tell(self) -> None:
        open_for_edits(self.world.run)
        self.up()
        with self.joined("laptop", "phone") as (laptop, phone):
            self.laptop, self.phone = laptop, phone
            eventually(lambda: phone.ping(laptop.addresses()[0]), "phone pings laptop", JOIN_TIMEOUT)
            self.what_a_deploy_costs()
            self.wrong_configurations()
            self.lost_on_the_way()
        self.world.stack.destroy()

    # -- what a right deploy costs ------------------------------------------------------------------------------

    def what_a_deploy_costs(self) -> None:
        with self.report.step("a change of nginx is a reload: no device reconnects") as line:
            line.note = self.costs([OTHER_NGINX], restarts=False)
        with self.report.step("a change of the policy is a reload: no device reconnects") as line:
            line.note = self.costs([("policy.hujson", '"src": ["*"]', EVERYBODY)], restarts=False)
        with self.report.step("a change of headscale's settings restarts it; the devices' pings go on") as line:
            line.note = self.costs([RESTARTS_HEADSCALE], restarts=True)

    def costs(self, changes: list[Change], restarts: bool) -> str:
        before, connected = self.main_pids(), self.connections()
        with all_edited(changes), self.pinging() as pings, self.health() as health:
            self.deploys()
            after, still = self.main_pids(), self.connections()
        same = [unit for unit in before if before[unit] == after[unit]]
        assert same == ([unit for unit in before if unit != "headscale"] if restarts else list(before)), (before, after)
        assert restarts or connected <= still, f"{len(connected - still)} connections were lost"
        self.deploys()
        kept = f"{len(connected & still)} of {len(connected)} connections kept"
        return f"{kept}, headscale away {health.longest:.1f} s, {pings()}"

    def main_pids(self) -> dict[str, str]:
        units = ("headscale", "nginx")
        return {unit: self.world.console("systemctl", "show", "-P", "MainPID", unit) for unit in units}

    def connections(self) -> set[str]:
        """The far ends of what devices keep open to NGINX."""
        listed = self.world.console("ss", "-Htn", "state", "established", "sport", "=", ":443").splitlines()
        return {line.split()[3] for line in listed if not line.split()[3].startswith(("127.", "[::1]"))}

    # -- wrong configurations -----------------------------------------------------------------------------------

    def wrong_configurations(self) -> None:
        self.taken_back("a configuration without sshd", [NO_SSHD], "sshd: waited in vain")
        self.taken_back("a firewall that drops SSH", [NO_SSH_PORT], "nobody came")
        self.taken_back("an nginx configuration that nginx refuses", [BAD_NGINX], "nginx")
        self.taken_back("a policy that headscale refuses", [BAD_POLICY], "group not defined in policy")
        self.taken_back("a headscale that does not start", [NO_MAP], "headscale.service said last")
        self.taken_back("an evaluation error", [BAD_NIX], "could not be built")
        self.taken_back(
            "another version of headscale, and then no nginx", [OTHER_VERSION, MIGRATION, BAD_NGINX], "nginx"
        )

    def taken_back(self, what: str, changes: list[Change], reason: str) -> None:
        with self.report.step(f"{what}: `pulumi up` says why, all is as before") as line:
            before = self.standing()
            with all_edited(changes), self.pinging() as pings, self.health() as health:
                said = self.world.stack.up(expect=1).output
            assert reason in said, said[-3000:]
            self.assert_standing(before)
            line.note = f"headscale away {health.longest:.1f} s, {pings()}"
        self.next_one_succeeds()

    def next_one_succeeds(self) -> None:
        with self.report.step("  and the next right `pulumi up` deploys") as line:
            line.note = self.deploys()

    def deploys(self) -> str:
        outcome = self.world.stack.up()
        assert outcome.changed() == dict.fromkeys(DEPLOY, "update"), outcome.changed()
        self.log_in()
        return f"generation {self.world.stack.outputs()['generation']}"

    # -- lost on the way ----------------------------------------------------------------------------------------

    def lost_on_the_way(self) -> None:
        with self.report.step("the connection cut in the middle: `pulumi up` fails, the server goes on") as line:
            line.note = self.connection_is_cut()
        with self.report.step("  and the next `pulumi up` joins that deploy and confirms it") as line:
            line.note = self.cut_deploy_is_joined()
        self.next_one_succeeds()
        self.reboot_in_the_middle("rebooted in the middle", [NO_SSH_PORT])
        self.reboot_in_the_middle(
            "rebooted with another version of headscale half deployed", [NO_SSH_PORT, OTHER_VERSION, MIGRATION]
        )
        with self.report.step("the same deploy twice at once: the second waits, and there is one") as line:
            line.note = self.twice_at_once()

    def connection_is_cut(self) -> str:
        with edited(*OTHER_NGINX), self.pinging() as pings:
            before = self.world.deploys_begun()
            with self.up_in_the_background(expect=1) as ended:
                eventually(lambda: self.deploying("activating"), "a deploy under way", 60)
                self.cut()
                ended()
            assert self.world.deploys_begun() == before + 1
            assert self.deploying("activating", "active"), "the deploy ended with its connection"
        return pings()

    def cut(self) -> None:
        """End the sshd that serves deploy.sh, as a lost network would."""
        script = self.world.console("pgrep", "--full", "--oldest", "remote/deploy.sh")
        self.world.console("kill", "-KILL", self.world.console("ps", "-o", "ppid=", "-p", script).strip())

    def cut_deploy_is_joined(self) -> str:
        with edited(*OTHER_NGINX):
            before = self.world.deploys_begun()
            outcome = self.world.stack.up()
            assert self.world.deploys_begun() == before, "it was deployed a second time"
            return f"{len(outcome.changed())} commands, no second deploy"

    def reboot_in_the_middle(self, what: str, changes: list[Change]) -> None:
        with self.report.step(f"{what}: `pulumi up` fails, all is as before") as line:
            before = self.standing()
            with all_edited(changes), self.pinging() as pings, self.up_in_the_background(expect=1) as ended:
                eventually(lambda: self.deploying("active"), "a deploy that waits to be confirmed", 60)
                self.world.machines.reboot(self.world.server_id)
                ended()
            said = self.world.console("cat", "/var/lib/deployment/reason")
            assert said == "the server was rebooted before the deploy was confirmed", said
            self.assert_standing(before)
            line.note = pings()
        self.next_one_succeeds()

    def twice_at_once(self) -> str:
        with edited(*OTHER_NGINX), self.up_in_the_background() as ended:
            before = self.world.deploys_begun()
            unit = eventually(lambda: self.deploying("activating"), "a deploy under way", 60)
            assert (yields := self.yields(unit)) == YIELDING, yields
            request = json.dumps({"digest": self.pushed_digest(), "token": "a second time"})
            second = self.world.machines.run(self.world.server_id, ["sh", DEPLOY_SH], text=request, timeout=120)
            ended()
        assert second.returncode == 0, second.stderr
        assert self.world.deploys_begun() == before + 1
        return f"{unit}: {second.stdout.strip().splitlines()[-1]}"

    def yields(self, unit: str) -> list[str]:
        """What a unit gets of processor and disk where others want them, and how early it is killed for its memory."""
        shown = self.world.console("systemctl", "show", unit, "--property", "CPUWeight,IOWeight,OOMScoreAdjust")
        return sorted(shown.split())

    def pushed_digest(self) -> str:
        return self.world.console("sh", "/etc/nixos/remote/digest.sh")

    def deploying(self, *states: str) -> str:
        """The unit that deploys, if it is in one of these states."""
        wanted = f"--state={','.join(states)}"
        listed = self.world.console("systemctl", "list-units", "--plain", "--no-legend", wanted, "deploy-*.service")
        return listed.split(" ")[0]

    # -- what must stand ----------------------------------------------------------------------------------------

    def standing(self) -> dict[str, str]:
        """What runs, what boots, what was confirmed, and headscale's users and nodes."""
        look = self.world.console
        return {
            "running": look("readlink", "-f", "/run/current-system"),
            "default": look("readlink", "-f", "/nix/var/nix/profiles/system"),
            "confirmed": look("cat", "/var/lib/deployment/confirmed.json"),
            "users and nodes": look("sqlite3", "/var/lib/headscale/db.sqlite", USERS_AND_NODES),
        }

    def assert_standing(self, before: dict[str, str]) -> None:
        self.log_in()
        after = self.standing()
        assert after == before, {key: (before[key], after[key]) for key in before if after[key] != before[key]}
        failed = self.world.console("systemctl", "list-units", "--failed", "--plain", "--no-legend")
        assert failed == "", f"failed units: {failed}"

    @contextmanager
    def health(self) -> Iterator["Health"]:
        health = Health(f"https://{HEADSCALE}/health", self.trust())
        thread = threading.Thread(target=health.watch)
        thread.start()
        try:
            yield health
        finally:
            health.over.set()
            thread.join()


class Health:
    """Asks headscale's health ten times a second; `longest` is the longest time without a good answer, in seconds."""

    def __init__(self, url: str, trust: ssl.SSLContext) -> None:
        self._url, self._trust = url, trust
        self.over = threading.Event()
        self.longest = 0.0

    def watch(self) -> None:
        good = time.monotonic()
        while not self.over.wait(0.1):
            with suppress(OSError):
                urllib.request.urlopen(self._url, timeout=5, context=self._trust).close()
                self.longest = max(self.longest, time.monotonic() - good - 0.1)
                good = time.monotonic()


@contextmanager
def all_edited(changes: Sequence[Change]) -> Iterator[None]:
    with ExitStack() as end:
        for change in changes:
            end.enter_context(edited(*change))
        yield
