"""NGINX takes reloads, deploys, a renewed certificate and another name, and no device's connection ends.

Before all that, the first order of the first `pulumi up` fails.
"""

import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rehearsal.internet.network import ACME, within
from rehearsal.operator.edits import laid_over, open_for_edits
from rehearsal.sandbox.processes import check
from rehearsal.sandbox.wait import eventually
from rehearsal.story import HEADSCALE, JOIN_TIMEOUT, UI, Story

# By name the first of the account: the other one requires it.
LEADER, FOLLOWER = f"acme-order-renew-{UI}.service", f"acme-order-renew-{HEADSCALE}.service"
OTHER_UI = "admin.example.org"
REFUSAL = "table inet story { chain out { type filter hook output priority 0; tcp dport 80 reject with tcp reset; }; }"
MANY = 10


class Reloads(Story):
    """A server from its first order, which fails, to another name of the web interface."""

    def tell(self) -> None:
        open_for_edits(self.world.run)
        self.first_order_fails()
        with self.joined("laptop", "phone") as (self.laptop, self.phone):
            eventually(lambda: self.phone.ping(self.laptop.addresses()[0]), "phone pings laptop", JOIN_TIMEOUT)
            before = self.world.host.web_clients()
            self.reloads(before)
            self.deploys_of_others(before)
            self.cut_off(before)
            self.not_carried_out(before)
            self.renewal(before)
            self.other_name(before)
        self.world.stack.destroy()

    def first_order_fails(self) -> None:
        with self.report.step("the first order fails: `pulumi up` repeats it, and both names get certificates") as line:
            host = self.world.host
            with self.up_in_the_background() as ended:
                with self.authority_refused():
                    eventually(lambda: host.show(LEADER, "ExecMainStatus") == "10", "an order that fails", 240)
                    failed = time.monotonic()
                    eventually(lambda: host.show(FOLLOWER, "Job") == "", "the end of the other's job", 10)
                    assert host.show(FOLLOWER, "ActiveState") == "inactive", "the other order did not depend on it"
                eventually(self.both_ordered, "both certificates", 120)
                line.note = f"{time.monotonic() - failed:.1f} s after the failure"
                printed = ended()
            assert f"once more, since {LEADER} has failed" in printed, printed[-3000:]
            self.outputs = self.world.stack.outputs()

    @contextmanager
    def authority_refused(self) -> Iterator[None]:
        """Meanwhile the authority is refused wherever it looks for its challenges."""
        check([*within(ACME.name), "nft", REFUSAL])
        try:
            yield
        finally:
            check([*within(ACME.name), "nft", "delete table inet story"])

    def both_ordered(self) -> bool:
        return all(self.world.host.run("ls", f"/var/lib/acme/{name}/acme-success") for name in (HEADSCALE, UI))

    def reloads(self, before: set[str]) -> None:
        with self.report.step(f"{MANY} reloads of NGINX: no connection ends") as line:
            for _ in range(MANY):
                self.world.host.run("systemctl", "reload", "nginx.service")
            line.note = f"{self.kept(before)}, {self.workers()}"

    def deploys_of_others(self, before: set[str]) -> None:
        """They take longer than a minute: what a reload ends after a while would be missing."""
        with self.report.step(
            f"{MANY} deploys that touch neither headscale nor NGINX: no reload, no reconnect"
        ) as line:
            reloads, start = self.times_reloaded(), time.monotonic()
            for number in range(MANY):
                with laid_over("other-audit-log", logs=number + 9):
                    self.world.stack.up()
            assert self.times_reloaded() == reloads, "NGINX was reloaded"
            line.note = f"{self.kept(before)} over {time.monotonic() - start:.0f} s, {self.workers()}"

    def cut_off(self, before: set[str]) -> None:
        with self.report.step("a reload that was cut off is made up for by the next deploy") as line:
            reloads = self.times_reloaded()
            # What a switch leaves that is killed: it stops first what is changed.
            self.world.host.stop("nginx-config-reload.service")
            self.world.stack.up()
            assert self.times_reloaded() == reloads + 1
            line.note = self.kept(before)

    def not_carried_out(self, before: set[str]) -> None:
        with self.report.step("a configuration that NGINX tests well and cannot load: `pulumi up` says so") as line:
            with laid_over("occupied-address"):
                printed = self.world.stack.up(expect=1).output
            assert "no worker with the new configuration" in printed, printed[-3000:]
            line.note = self.kept(before)
        with self.report.step("  and the next right `pulumi up` deploys"):
            self.world.stack.up()

    def renewal(self, before: set[str]) -> None:
        with self.report.step("a renewed certificate is served, without a deploy") as line:
            former = ssl.get_server_certificate((HEADSCALE, 443))
            # As if it were about to end: the authority's live for years.
            self.world.host.run("sh", "-c", f"rm /var/lib/acme/.lego/{HEADSCALE}/certificates/*.crt")
            self.world.host.start(FOLLOWER)
            eventually(lambda: ssl.get_server_certificate((HEADSCALE, 443)) != former, "the renewed certificate", 30)
            line.note = self.kept(before)

    def other_name(self, before: set[str]) -> None:
        with self.report.step("another name of the web interface is a reload of NGINX, not a restart") as line:
            master = self.world.host.show("nginx.service", "MainPID")
            self.world.stack.set("uiName", OTHER_UI)
            self.world.stack.up()
            assert self.world.host.show("nginx.service", "MainPID") == master, "NGINX was restarted"
            assert self.get(f"https://{OTHER_UI}/web/")[0] == 200
            line.note = self.kept(before)

    def times_reloaded(self) -> int:
        return self.world.host.journal("nginx").count("Reloading")

    def kept(self, before: set[str]) -> str:
        still = self.world.host.web_clients()
        assert before and before <= still, f"{len(before - still)} of {len(before)} connections were lost"
        return f"{len(before)} connections kept"

    def workers(self) -> str:
        """The number of NGINX's workers, and the memory that is their own."""
        pids = self.world.host.run("pgrep", "--full", "nginx: worker process").split()
        files = [f"/proc/{pid}/smaps_rollup" for pid in pids]
        own = [line.split()[1] for line in self.world.host.run("cat", *files).splitlines() if line.startswith("Pss:")]
        return f"{len(pids)} workers with {sum(map(int, own)) / 1024:.0f} MiB"
