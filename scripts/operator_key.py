"""The operator's age key, where sops looks for it (age/keysource.go of SOPS 3)."""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from commands import Refused, replacing
from pyrage import IdentityError, x25519

ELSEWHERE = ("SOPS_AGE_KEY", "SOPS_AGE_KEY_CMD")
NAME_IT = "`export SOPS_AGE_RECIPIENTS=age1...` says which keys are yours"


def place() -> Path:
    if given := os.environ.get("SOPS_AGE_KEY_FILE"):
        return Path(given)
    # Go's os.UserConfigDir, with sops' own exception for macOS.
    usual = Path.home() / ("Library/Application Support" if sys.platform == "darwin" else ".config")
    return Path(os.environ.get("XDG_CONFIG_HOME") or usual) / "sops/age/keys.txt"


def is_missing() -> bool:
    """Whether sops would find no key, and nobody says which one it is."""
    return not any(os.environ.get(name) for name in ("SOPS_AGE_RECIPIENTS", *ELSEWHERE)) and not place().exists()


def make() -> None:
    """As age-keygen writes it."""
    identity = x25519.Identity.generate()
    made = datetime.now(UTC).isoformat(timespec="seconds")
    text = f"# created: {made}\n# public key: {identity.to_public()}\n{identity}\n"
    place().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with replacing(place()) as new:
        new.touch(mode=0o600)
        new.write_text(text)


def recipients() -> list[str]:
    """SOPS_AGE_RECIPIENTS, else those of the keys in the file."""
    if given := os.environ.get("SOPS_AGE_RECIPIENTS"):
        return [recipient.strip() for recipient in given.split(",")]
    for name in ELSEWHERE:
        if os.environ.get(name):
            raise Refused(f"your age key comes from {name}, which is not looked into; {NAME_IT}")
    lines = [line.strip() for line in place().read_text().splitlines()]
    try:
        return [str(x25519.Identity.from_str(line).to_public()) for line in lines if line and not line.startswith("#")]
    except IdentityError:
        raise Refused(f"{place()} holds another kind of key than AGE-SECRET-KEY-1...; {NAME_IT}") from None
