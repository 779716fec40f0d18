"""The certificates, and what TLS offers: the latter by the scanner SSLyze, which runs as a program of its own."""

import json
import shutil
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from cryptography import x509

from ..commands import PROGRAM, Refused, run
from .report import Wrong, once
from .target import Target

SCANNER = PROGRAM / ".venv-verify/bin/sslyze"
INSTALL = (
    "the scanner SSLyze is not there; `python3 -m venv .venv-verify && .venv-verify/bin/pip install -r "
    "requirements-verify.txt`, in the program's directory, installs it"
)
# The server renews 30 days before the end.
FEWEST_DAYS = 20
TIMEOUT = 10.0
VERSIONS = {
    **{"ssl_2_0_cipher_suites": "SSL 2.0", "ssl_3_0_cipher_suites": "SSL 3.0", "tls_1_0_cipher_suites": "TLS 1.0"},
    **{"tls_1_1_cipher_suites": "TLS 1.1", "tls_1_2_cipher_suites": "TLS 1.2", "tls_1_3_cipher_suites": "TLS 1.3"},
}
EXPECTED_VERSIONS = ["TLS 1.2", "TLS 1.3"]
COMMANDS = (
    *("--sslv2", "--sslv3", "--tlsv1", "--tlsv1_1", "--tlsv1_2", "--tlsv1_3"),
    *("--heartbleed", "--openssl_ccs", "--robot", "--compression", "--reneg"),
)


@contextmanager
def connection(
    target: Target, name: str, *, trusted: bool = True, named: bool = True, address: str = ""
) -> Iterator[ssl.SSLSocket]:
    """A TLS connection to the server itself, whatever DNS says; `trusted` and `named` say what is insisted on."""
    context = ssl.create_default_context()
    if target.authority:
        context.load_verify_locations(target.authority)
    context.check_hostname = trusted and named
    context.verify_mode = ssl.CERT_REQUIRED if trusted else ssl.CERT_NONE
    with (
        socket.create_connection((address or target.ipv4, 443), timeout=TIMEOUT) as plain,
        context.wrap_socket(plain, server_hostname=name) as secure,
    ):
        yield secure


def chain(target: Target, name: str) -> str:
    try:
        with connection(target, name, named=False):
            pass
    except ssl.SSLCertVerificationError as problem:
        raise Wrong(
            f"{problem.verify_message}; docs/trouble.md says why an order fails. `--ca FILE` trusts more"
        ) from None
    return _issuer(_certificate(target, name))


def named(target: Target, name: str) -> str:
    names = _names(_certificate(target, name))
    if name not in names:
        raise Wrong(f"is for {', '.join(names)}, not for {name}; `pulumi up` orders it again")
    return ", ".join(names)


def days_left(target: Target, name: str) -> str:
    days = (_certificate(target, name).not_valid_after_utc - datetime.now(UTC)).days
    if days < FEWEST_DAYS:
        raise Wrong(
            f"ends in {days} days, and should have been renewed 30 days before its end: on the server, "
            f"`journalctl --unit acme-order-renew-{name}` says why it was not"
        )
    return f"{days} days"


def versions(target: Target, name: str) -> str:
    results = scan(target)[name]
    offered = [version for key, version in VERSIONS.items() if results[key]["is_tls_version_supported"]]
    if offered != EXPECTED_VERSIONS:
        raise Wrong(
            f"offers {', '.join(offered) or 'nothing'}, not {' and '.join(EXPECTED_VERSIONS)}; see nix/nginx.nix"
        )
    return ", ".join(offered)


def ciphers(target: Target, name: str) -> str:
    """Forward secrecy and authenticated encryption, of the versions that should be there."""
    results = scan(target)[name]
    versions = [key for key, version in VERSIONS.items() if version in EXPECTED_VERSIONS]
    suites = {each["cipher_suite"]["name"] for key in versions for each in results[key]["accepted_cipher_suites"]}
    if weak := sorted(suite for suite in suites if not _is_strong(suite)):
        raise Wrong(f"offers {', '.join(weak)}; see nix/nginx.nix")
    return f"{len(suites)}, all with forward secrecy and authenticated encryption"


def weaknesses(target: Target, name: str) -> str:
    results = scan(target)[name]
    flaws = {
        "Heartbleed": results["heartbleed"]["is_vulnerable_to_heartbleed"],
        "CCS injection": results["openssl_ccs_injection"]["is_vulnerable_to_ccs_injection"],
        "ROBOT": not results["robot"]["robot_result"].startswith("NOT_VULNERABLE"),
        "compression (CRIME)": results["tls_compression"]["supports_compression"],
        "insecure renegotiation": not results["session_renegotiation"]["supports_secure_renegotiation"],
        "renegotiation by clients": results["session_renegotiation"]["is_vulnerable_to_client_renegotiation_dos"],
    }
    if present := [flaw for flaw, is_there in flaws.items() if is_there]:
        raise Wrong(f"{', '.join(present)}: `scripts/update --nixpkgs` brings a newer OpenSSL and NGINX")
    return f"none of {', '.join(flaws)}"


def scanner() -> str:
    path = shutil.which("sslyze") or (str(SCANNER) if SCANNER.exists() else "")
    if not path:
        raise Refused(INSTALL)
    return path


@once
def scan(target: Target) -> dict[str, dict[str, Any]]:
    """SSLyze's results by name, of all names in one run."""
    places = [f"{name}:443{{{target.ipv4}}}" for name in target.names]
    document = json.loads(run(scanner(), "--json_out=-", "--mozilla_config=disable", *COMMANDS, *places))
    return {result["server_location"]["hostname"]: _results(result) for result in document["server_scan_results"]}


def _results(result: dict[str, Any]) -> dict[str, Any]:
    if result["scan_status"] != "COMPLETED":
        raise Wrong(f"SSLyze could not connect: {result['connectivity_error_trace']}")
    commands = result["scan_result"].items()
    if lacking := [name for name, each in commands if each["status"] == "ERROR"]:
        raise Wrong(f"SSLyze could not judge {', '.join(lacking)}; type this again, and see whether it stays so")
    return {command: each["result"] for command, each in commands}


def _is_strong(suite: str) -> bool:
    authenticated = any(kind in suite for kind in ("_GCM_", "_CHACHA20_POLY1305", "_CCM"))
    # The suites of TLS 1.3 name no exchange: it is always an ephemeral one.
    return authenticated and ("DHE_" in suite or "_WITH_" not in suite)


def _certificate(target: Target, name: str) -> x509.Certificate:
    with connection(target, name, trusted=False) as secure:
        return x509.load_der_x509_certificate(secure.getpeercert(binary_form=True) or b"")


def _names(certificate: x509.Certificate) -> list[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName)


def _issuer(certificate: x509.Certificate) -> str:
    return f"issued by {certificate.issuer.rfc4514_string()}"
