"""The operator's age key, where sops looks for it (age/keysource.go of SOPS 3)."""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from pyrage import IdentityError, x25519

from .commands import Refused, atomic_write

ELSEWHERE = ("SOPS_AGE_KEY", "SOPS_AGE_KEY_CMD")
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
