"""DNS of the small internet: dnsmasq, which knows what the Cloudflare emulator holds and the ACME server.

A proxied record gets an address at which nobody answers: headscale does not work behind Cloudflare's proxy.
Not modelled: records other than A and AAAA, wildcards, TTLs (all are 0), the time a change takes to spread.
"""

import os
import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from rehearsal.internet.network import ACME, HUB, RESOLVER, within
from rehearsal.sandbox.capsule import Run
from rehearsal.sandbox.processes import daemon
from rehearsal.sandbox.wait import eventually

ACME_NAME = "acme.example.org"
NOBODY = {"A": "192.0.2.1", "AAAA": "2001:db8:dead::1"}
QUERY = re.compile(r"query\[(?P<type>\w+)\] (?P<name>\S+) from (?P<client>\S+)")


class PublishedRecord(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def content(self) -> str: ...
    @property
    def proxied(self) -> bool: ...


class Query(NamedTuple):
    client: str
    type: str
    name: str


@dataclass(frozen=True)
class Resolver:
    """The running server; `publish` is what the Cloudflare emulator calls after every change."""

    hosts: Path
    log: Path
    pid: int

    def publish(self, records: Sequence[PublishedRecord]) -> None:
        """Answer from now on with these records and no others."""
        before = self._loads()
        lines = [f"{_address(record)} {record.name}\n" for record in records if record.type in NOBODY]
        self.hosts.write_text("".join(lines))
        os.kill(self.pid, signal.SIGHUP)
        eventually(lambda: self._loads() > before, f"dnsmasq to read {self.hosts} again", timeout=5)

    def queries(self) -> list[Query]:
        """The queries so far, each with its client, in order."""
        return [Query(**match.groupdict()) for match in QUERY.finditer(self.log.read_text())]

    def _loads(self) -> int:
        return self.log.read_text().count(f"read {self.hosts} ")


def _address(record: PublishedRecord) -> str:
    return NOBODY[record.type] if record.proxied else record.content


@contextmanager
def names(run: Run) -> Iterator[Resolver]:
    directory, log = run.directory("dns"), run.directory("logs") / "dns.log"
    hosts, config = directory / "records", directory / "dnsmasq.conf"
    hosts.touch()
    log.touch()
    config.write_text(
        f"user=root\nno-resolv\nno-hosts\nlocal=/#/\naddn-hosts={hosts}\nlog-queries\nlog-facility={log}\n"
        f"listen-address={RESOLVER}\nbind-interfaces\nhost-record={ACME_NAME},{ACME.ipv4},{ACME.ipv6}\n"
    )
    argv = [*within(HUB), "dnsmasq", "--keep-in-foreground", f"--conf-file={config}"]
    with daemon(argv, log=run.directory("logs") / "dnsmasq.log") as process:
        server = Resolver(hosts=hosts, log=log, pid=process.pid)
        eventually(server._loads, f"dnsmasq to start (see {log})", timeout=5)
        yield server
