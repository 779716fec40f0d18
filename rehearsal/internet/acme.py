"""The certificate authority: pebble, Let's Encrypt's own test server, as acme.example.org.

It validates HTTP-01 on port 80 through the small internet and its DNS. Its root is new in every rehearsal.
Not modelled: rate limits, short-lived certificates (its leaves live for years), certificate transparency.
"""

import json
import ssl
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rehearsal.internet.dns import ACME_NAME
from rehearsal.internet.network import ACME, RESOLVER, link, namespace, within
from rehearsal.sandbox.capsule import Run, write_etc
from rehearsal.sandbox.processes import check, daemon
from rehearsal.sandbox.wait import eventually

DIRECTORY = f"https://{ACME_NAME}/dir"
MANAGEMENT = 15000
ENVIRONMENT = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0", "PATH": "/usr/bin:/usr/sbin"}


@dataclass(frozen=True)
class Acme:
    """`bundle` holds the root that signs what is issued and the certificate of the ACME server itself."""

    directory: str
    bundle: Path


@contextmanager
def acme(run: Run) -> Iterator[Acme]:
    """Start it, and make the operator's side trust what it issues; needs the DNS server to run."""
    certificate, config = _listener(run.directory("acme")), run.directory("acme") / "pebble.json"
    config.write_text(json.dumps({"pebble": _settings(certificate)}))
    argv = [*within(ACME.name), "pebble", "-config", str(config), "-dnsserver", f"{RESOLVER}:53"]
    log = run.directory("logs") / "pebble.log"
    with namespace(ACME.name), link(ACME, place=ACME.name), daemon(argv, log=log, environment=ENVIRONMENT):
        root = eventually(lambda: _root(certificate), f"pebble to hand out its root (see {log})", timeout=10)
        bundle = run.path / "ca.crt"
        bundle.write_text(certificate.read_text() + root)
        write_etc("ssl/certs/ca-certificates.crt", bundle.read_text())
        yield Acme(directory=DIRECTORY, bundle=bundle)


def _listener(directory: Path) -> Path:
    certificate, key = directory / "listener.crt", directory / "listener.key"
    check(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-days", "3", "-subj", f"/CN={ACME_NAME}", "-addext", f"subjectAltName=DNS:{ACME_NAME}"),
            *("-out", str(certificate), "-keyout", str(key)),
        ]
    )
    return certificate


def _settings(certificate: Path) -> dict[str, object]:
    return {
        "listenAddress": "0.0.0.0:443",
        "managementListenAddress": f"0.0.0.0:{MANAGEMENT}",
        "certificate": str(certificate),
        "privateKey": str(certificate.with_suffix(".key")),
        "httpPort": 80,
        "tlsPort": 443,
    }


def _root(certificate: Path) -> str:
    trust = ssl.create_default_context(cafile=str(certificate))
    url = f"https://{ACME_NAME}:{MANAGEMENT}/roots/0"
    with urllib.request.urlopen(url, context=trust, timeout=2) as answer:
        return str(answer.read(), "utf-8")
