"""No deploy, however wrong, costs the server, its data or the way in: each way to fail, while devices ping."""

import json
import ssl
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rehearsal.operator.edits import laid_over, open_for_edits
from rehearsal.sandbox.wait import eventually
from rehearsal.story import DEPLOY, HEADSCALE, JOIN_TIMEOUT, Story

DEPLOY_SH = "/etc/nixos/remote/deploy.sh"
POLICY = Path(__file__).with_name("faults") / "everybody.hujson"
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
            self.service_of_its_own()
            self.lost_on_the_way()
        self.world.stack.destroy()

    def what_a_deploy_costs(self) -> None:
        with self.report.step("a change of nginx is a reload: no device reconnects") as line:
            with laid_over("other-nginx"):
                line.note = self.costs(restarts=False)
            self.deploys()
        with self.report.step("a change of the policy is a reload: no device reconnects") as line:
            self.world.stack.set("policyFile", str(POLICY))
            line.note = self.costs(restarts=False)
        with self.report.step("a change of headscale's settings restarts it; the devices' pings go on") as line:
            with laid_over("other-settings"):
                line.note = self.costs(restarts=True)
            self.deploys()

    def costs(self, restarts: bool) -> str:
        before, connected = self.main_pids(), self.world.host.web_clients()
        with self.pinging() as pings, self.health() as health:
            self.deploys()
            after, still = self.main_pids(), self.world.host.web_clients()
        same = [unit for unit in before if before[unit] == after[unit]]
        assert same == ([unit for unit in before if unit != "headscale"] if restarts else list(before)), (before, after)
        assert restarts or connected <= still, f"{len(connected - still)} connections were lost"
        connections = f"{len(connected & still)} of {len(connected)} connections kept"
        return f"{connections}, headscale away {health.longest:.1f} s, {pings()}"

    def main_pids(self) -> dict[str, str]:
        units = ("headscale", "nginx")
        return {unit: self.world.host.main_pid(unit) for unit in units}

    def wrong_configurations(self) -> None:
        self.rolled_back("a configuration without sshd", ["no-sshd"], "sshd did not answer within 15 s")
        self.rolled_back(
            "a firewall that drops SSH", ["no-ssh-port"], "not confirmed: no new SSH connection within 60 s"
        )
        self.rolled_back("an nginx configuration that nginx refuses", ["bad-nginx"], "nginx")
        self.rolled_back(
            "a headscale that does not start", ["no-relay-map"], "headscale.service has ended and been restarted"
        )
        self.rolled_back("an evaluation error", ["no-evaluation"], "could not be built")
        self.rolled_back("another version of headscale, and then no nginx", ["other-headscale", "bad-nginx"], "nginx")

    def service_of_its_own(self) -> None:
        """The agent knows nothing of the lantern but what the system that is activated says of it."""
        with (
            self.report.step("a new service with a check and data of its own is deployed"),
            laid_over("lantern", lit=True),
        ):
            self.deploys()
        with self.report.step("its check fails: `pulumi up` says so, and its data are restored") as line:
            before = self.standing()
            with laid_over("lantern", lit=False), self.pinging() as pings:
                printed = self.world.stack.up(expect=1).output
            assert "lantern did not pass its check; last seen: the lantern is out" in printed, printed[-3000:]
            self.assert_standing(before)
            assert self.world.host.read("/var/lib/lantern/flame") == "lit"
            line.note = pings()
        self.next_one_succeeds()

    def rolled_back(self, what: str, faults: list[str], reason: str) -> None:
        with self.report.step(f"{what}: `pulumi up` says why, all is as before") as line:
            before = self.standing()
            with laid_over(*faults), self.pinging() as pings, self.health() as health:
                printed = self.world.stack.up(expect=1).output
            assert reason in printed, printed[-3000:]
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

    def lost_on_the_way(self) -> None:
        with self.report.step("the connection cut in the middle: `pulumi up` fails, the server goes on") as line:
            line.note = self.connection_is_cut()
        with self.report.step("  and the next `pulumi up` joins that deploy and confirms it") as line:
            line.note = self.cut_deploy_is_joined()
        self.next_one_succeeds()
        self.reboot_in_the_middle("rebooted in the middle", ["no-ssh-port"])
        self.reboot_in_the_middle(
            "rebooted with another version of headscale half deployed", ["no-ssh-port", "other-headscale"]
        )
        with self.report.step("the same deploy twice at once: the second waits, and there is one") as line:
            line.note = self.twice_at_once()

    def connection_is_cut(self) -> str:
        with laid_over("other-nginx"), self.pinging() as pings:
            before = self.world.host.deploys_begun()
            with self.up_in_the_background(expect=1) as ended:
                eventually(lambda: self.world.host.deploying("activating"), "a deploy under way", 60)
                self.cut()
                ended()
            assert self.world.host.deploys_begun() == before + 1
            assert self.world.host.deploying("activating", "active"), "the deploy ended with its connection"
        return pings()

    def cut(self) -> None:
        """End the sshd that serves deploy.sh, as a lost network would."""
        script = self.world.host.run("pgrep", "--full", "--oldest", "remote/deploy.sh")
        self.world.host.run("kill", "-KILL", self.world.host.run("ps", "-o", "ppid=", "-p", script).strip())

    def cut_deploy_is_joined(self) -> str:
        with laid_over("other-nginx"):
            before = self.world.host.deploys_begun()
            outcome = self.world.stack.up()
            assert self.world.host.deploys_begun() == before, "it was deployed a second time"
            return f"{len(outcome.changed())} commands, no second deploy"

    def reboot_in_the_middle(self, what: str, faults: list[str]) -> None:
        with self.report.step(f"{what}: `pulumi up` fails, all is as before") as line:
            before = self.standing()
            with laid_over(*faults), self.pinging() as pings, self.up_in_the_background(expect=1) as ended:
                eventually(lambda: self.world.host.deploying("active"), "a deploy that waits to be confirmed", 60)
                self.world.machines.reboot(self.world.server_id)
                ended()
            # `pulumi up` may end before the server has booted.
            reason = eventually(lambda: self.world.host.rollback_reason(), "a reason", 60)
            assert reason == "the server was rebooted before the deploy was confirmed", reason
            eventually(self.answers, "SSH", 30)
            self.assert_standing(before)
            line.note = pings()
        self.next_one_succeeds()

    def answers(self) -> bool:
        self.log_in()
        return True

    def twice_at_once(self) -> str:
        with laid_over("other-nginx"), self.up_in_the_background() as ended:
            before = self.world.host.deploys_begun()
            unit = eventually(lambda: self.world.host.deploying("activating"), "a deploy under way", 60)
            assert (yields := self.yields(unit)) == YIELDING, yields
            request = json.dumps({"digest": self.pushed_digest(), "token": "a second time"})
            second = self.world.host.attempt(["sh", DEPLOY_SH], text=request, timeout=120)
            ended()
        assert second.returncode == 0, second.stderr
        assert self.world.host.deploys_begun() == before + 1
        return f"{unit}: {second.stdout.strip().splitlines()[-1]}"

    def yields(self, unit: str) -> list[str]:
        """A unit's share of processor and disk where others want them, and how early it is killed for its memory."""
        output = self.world.host.run("systemctl", "show", unit, "--property", "CPUWeight,IOWeight,OOMScoreAdjust")
        return sorted(output.split())

    def pushed_digest(self) -> str:
        return self.world.host.run("sh", "/etc/nixos/remote/digest.sh")

    def standing(self) -> dict[str, str]:
        """The running system, the boot default, the confirmed deploy, and headscale's users and nodes."""
        host = self.world.host
        return {
            "running": host.system("current"),
            "default": host.boot_default(),
            "confirmed": host.read("/var/lib/deployment/confirmed.json"),
            "users and nodes": host.run("sqlite3", "/var/lib/headscale/db.sqlite", USERS_AND_NODES),
        }

    def assert_standing(self, before: dict[str, str]) -> None:
        self.log_in()
        after = self.standing()
        assert after == before, {key: (before[key], after[key]) for key in before if after[key] != before[key]}
        failed = self.world.host.failed_units()
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
