"""Certificates come although the first orders fail, a refusal is told in the authority's words, a renewal is served."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rehearsal.sandbox.wait import eventually
from rehearsal.stories.main import assert_untouched
from rehearsal.story import HEADSCALE, UI, Story

NAMES = (HEADSCALE, UI)
# The authority's questions are refused.
CLOSED = "table inet closed { chain input { type filter hook input priority -5; tcp dport 80 reject; }; }"
ORDERS = [f"acme-order-renew-{name}.service" for name in NAMES]
# The account is made by the order of the name that is first in the alphabet.
FIRST = f"acme-order-renew-{min(NAMES)}.service"


class Certificates(Story):
    def tell(self) -> None:
        self.up()
        self.first_orders_fail()
        self.authority_refuses()
        self.renewed()
        with self.report.step("after all of it the preview is clean"):
            assert_untouched(self.world.stack.preview("--expect-no-changes"))

    def first_orders_fail(self) -> None:
        with self.report.step(
            "the first order fails, and the other with it: both certificates come all the same"
        ) as line:
            self.forget()
            with self.closed():
                self.order()
            states = {order: self.state(order) for order in ORDERS}
            assert states == {order: "failed" if order == FIRST else "inactive" for order in ORDERS}, states
            # As each switch does.
            self.world.host.run("systemctl", "reset-failed")
            begin = time.monotonic()
            self.wait(expect=0)
            line.note = f"{time.monotonic() - begin:.1f} s after the failure"
        with self.report.step("  and are served"):
            for name in NAMES:
                self.served(name)

    def authority_refuses(self) -> None:
        with self.report.step(
            "an authority that goes on refusing is told with its words, by the order that failed"
        ) as line:
            self.forget()
            with self.closed():
                self.order()
                words = self.wait(expect=1)
            assert f"the last words of {FIRST} were:" in words, words
            assert "Failed to fetch certificates" in words, words
            line.note = next(text for text in words.splitlines() if text.startswith("certificates: "))
            self.wait(expect=0)

    def renewed(self) -> None:
        with self.report.step("a renewed certificate is served without a deploy"):
            before = self.served(HEADSCALE)
            self.world.host.run("sh", "-c", f"rm -rf /var/lib/acme/.lego/{HEADSCALE}/certificates")
            self.world.host.start(ORDERS[0])
            eventually(lambda: self.served(HEADSCALE)["serialNumber"] != before["serialNumber"], "the new one", 20)

    def forget(self) -> None:
        """Make the server one that has never had a certificate but its own; an authority asks a known account less."""
        self.world.host.run("sh", "-c", "rm -rf /var/lib/acme/.lego/*/* /var/lib/acme/*/acme-success")
        self.world.host.stop("acme-account-*.target")

    def order(self) -> None:
        self.world.host.attempt(["systemctl", "start", *ORDERS], timeout=120)

    def wait(self, expect: int) -> str:
        """The output of the product's own script that waits for both certificates."""
        script = ["sh", "/etc/nixos/remote/certificates.sh"]
        names = json.dumps({"names": NAMES})
        run = self.world.host.attempt(script, text=names, timeout=320)
        assert run.returncode == expect, run.stdout + run.stderr
        return run.stdout + run.stderr

    def state(self, unit: str) -> str:
        return self.world.host.show(unit, "ActiveState")

    def served(self, name: str) -> dict[str, Any]:
        """The certificate that NGINX shows to a stranger, as Python reads it."""
        with (
            socket.create_connection((name, 443), timeout=10) as plain,
            self.trust().wrap_socket(plain, server_hostname=name) as tls,
        ):
            return tls.getpeercert() or {}

    @contextmanager
    def closed(self) -> Iterator[None]:
        self.world.host.run("sh", "-c", f"echo '{CLOSED}' | nft -f -")
        try:
            yield
        finally:
            self.world.host.run("nft", "delete", "table", "inet", "closed")
