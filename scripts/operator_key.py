"""The operator's age key, where sops looks for it (age/keysource.go of SOPS 3)."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from pyrage import IdentityError, x25519

import sops

from .commands import Refused, as_typed, atomic_write

ELSEWHERE = ("SOPS_AGE_KEY", "SOPS_AGE_KEY_CMD")
# A key of hardware may want to be touched.
PATIENCE = 60
NAME_IT = "`export SOPS_AGE_RECIPIENTS=age1...` names your keys"


def place() -> Path:
    if path := os.environ.get("SOPS_AGE_KEY_FILE"):
        return Path(path)
    # Go's os.UserConfigDir, with sops' own exception for macOS.
    usual = Path.home() / ("Library/Application Support" if sys.platform == "darwin" else ".config")
    return Path(os.environ.get("XDG_CONFIG_HOME") or usual) / "sops/age/keys.txt"


def is_missing() -> bool:
    """True where sops would find no key, and none is named."""
    return not any(os.environ.get(name) for name in ("SOPS_AGE_RECIPIENTS", *ELSEWHERE)) and not place().exists()


def make() -> None:
    """Write a new key as age-keygen does."""
    identity = x25519.Identity.generate()
    created = datetime.now(UTC).isoformat(timespec="seconds")
    text = f"# created: {created}\n# public key: {identity.to_public()}\n{identity}\n"
    place().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with atomic_write(place()) as new:
        new.touch(mode=0o600)
        new.write_text(text)


def recipients() -> list[str]:
    """SOPS_AGE_RECIPIENTS, else those of the keys in the file."""
    if recipients := os.environ.get("SOPS_AGE_RECIPIENTS"):
        return [recipient.strip() for recipient in recipients.split(",")]
    for name in ELSEWHERE:
        if os.environ.get(name):
            raise Refused(f"your age key comes from {name}, which is not looked into; {NAME_IT}")
    lines = [line.strip() for line in place().read_text().splitlines()]
    try:
        return [str(x25519.Identity.from_str(line).to_public()) for line in lines if line and not line.startswith("#")]
    except IdentityError:
        raise Refused(f"{place()} holds another kind of key than AGE-SECRET-KEY-1...; {NAME_IT}") from None


def refusal(file: Path) -> str:
    """sops' own words where it does not open the file with this operator's keys; empty where it does."""
    decrypt = ("sops", "--disable-version-check", "decrypt", str(file))
    try:
        process = subprocess.run(
            decrypt, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=PATIENCE
        )
    except subprocess.TimeoutExpired:
        return f"sops did not end within {PATIENCE} s"
    words = " ".join(process.stderr.decode(errors="replace").replace("|", " ").split())
    return (words[:300] or f"sops ended with {process.returncode}") if process.returncode else ""


def way_in(file: Path, stack: str) -> str:
    """The ways to open a file that `refusal` is about."""
    whose = ", ".join(sops.recipients(file)) or "no age key"
    by_server = f"SOPS_AGE_KEY_CMD='pulumi config get --stack {stack} headscale:hostAgeKey' sops updatekeys"
    return (
        f"it is for {whose}: put the key of one of them into {place()}, or let SOPS_AGE_KEY_FILE name it. Or put "
        f"your own age1... into the file's rule in .sops.yaml, and `{by_server} {as_typed(file)}` lets it in, by the "
        "server's key"
    )
