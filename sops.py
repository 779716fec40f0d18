"""What a stack's SOPS file must be like, for the server to open it and for headscale to use what is in it.

It is opened as on the server: with the server's age identity, each value authenticated, and all of them by the file's
MAC. Values in clear are compared with their forms and kept nowhere. Sources: SOPS 3 (README, "Encryption Protocol", and
sops.go), headscale 0.29 (hscontrol/db/api_key.go), tailscale.com/types/key.MachinePrivate.
"""

import re
from base64 import b64decode
from collections.abc import Iterator
from hashlib import sha512
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from rules import Rejected

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from pyrage.x25519 import Identity

FORMS = {
    "headscale_noise_private_key": (r"privkey:[0-9A-Fa-f]{64}", "privkey: and 64 hexadecimal digits"),
    "headscale_api_key": (
        r"hskey-api-[A-Za-z0-9_-]{12}-[A-Za-z0-9_-]{64}",
        "hskey-api-, 12 letters, digits, - or _, a dash, and 64 more of them",
    ),
}
ENCRYPTED = re.compile(r"ENC\[AES256_GCM,data:(.*),iv:(.*),tag:(.*),type:[a-z]+\]")
# What sops hashes first where a rule says `mac_only_encrypted`: MACOnlyEncryptedInitialization in its sops.go.
MAC_ONLY_ENCRYPTED = bytes.fromhex("8a3fd2ad54ce66527b1034f3d147be0b0b975b3bf44f72c6fdadec8176f27d69")
ON_THE_SERVER = "/etc/nixos/secrets/headscale.yaml"
RESTORE = "restore it from git or from a backup"
OTHER_FILE = "`pulumi config set --plaintext headscale:secretsFile ...` names another"


def checked(path: Path, identity: "Identity | None") -> Path:
    """A file that the server's `identity` opens and that holds both keys; not opened where that is None."""
    if not path.exists():
        raise Rejected("does not exist", whereabouts(path, identity))
    held = encrypted(path)
    if identity is not None:
        values = _opened(path, held, identity)
        for name, (form, described) in FORMS.items():
            if name not in values:
                raise Rejected(f"has no {name}", "`scripts/init` adds one")
            if not re.fullmatch(form, values[name]):
                another = f"`sops unset {path} '[\"{name}\"]'`, and `scripts/init` makes another"
                raise Rejected(f"holds a {name} that is not {described}", another)
    return path


def whereabouts(path: Path, identity: "Identity | None") -> str:
    """Where the file may be that a stack has had, with the command that brings it back."""
    others = sorted(path.parent.glob("*.yaml")) if identity else []
    for other in others:
        if str(identity and identity.to_public()) in recipients(other):
            use = f"`pulumi config set --plaintext headscale:secretsFile {other}` uses it, as `mv {other} {path}` does"
            return f"{other} is encrypted to this stack's server: {use}"
    return (
        "for a new stack `scripts/init` makes it. A stack that has a server needs the file of that server, since "
        f"headscale's identity is in it: `git log --all -- {path}` finds it in git, and "
        f"`ssh root@$(pulumi stack output serverIpv4) cat {ON_THE_SERVER} >{path}` fetches the server's copy"
    )


def missing(path: Path) -> list[str]:
    """The names of headscale's keys that an encrypted file has not."""
    held = encrypted(path)
    return [name for name in FORMS if not held.get(name)]


def encrypted(path: Path) -> dict[str, Any]:
    """What the file holds, every value of it encrypted; all scalars are text."""
    held = _read(path)
    if not isinstance(held.get("sops"), dict):
        raise Rejected("is not encrypted: it has no `sops` entry", f"`sops encrypt --in-place {path}`")
    if clear := [where.rstrip(":") for where, text in _leaves(held) if text and not text.startswith("ENC[")]:
        repair = f"take it out of the file, and `sops edit {path}` puts it in again, encrypted"
        raise Rejected(f"holds {', '.join(clear)} in clear", repair)
    return held


def recipients(path: Path) -> list[str]:
    """The age keys that the file is encrypted to."""
    return list(_stanzas(_read(path)))


def _read(path: Path) -> dict[str, Any]:
    try:
        held = yaml.load(path.read_text(), yaml.BaseLoader)
    except FileNotFoundError:
        raise Rejected("does not exist", "`scripts/init` makes it") from None
    except OSError as error:
        raise Rejected(f"cannot be read: {error.strerror}", OTHER_FILE) from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise Rejected("cannot be read as YAML", RESTORE) from None
    return held if isinstance(held, dict) else {}


def _opened(path: Path, held: dict[str, Any], identity: "Identity") -> dict[str, str]:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    cipher = AESGCM(_data_key(path, held, identity))
    values = [(where[:-1], _value(cipher, where[:-1], text, where)) for where, text in _leaves(held) if text]
    metadata = held["sops"]
    digest = sha512(MAC_ONLY_ENCRYPTED if metadata.get("mac_only_encrypted") == "true" else b"")
    digest.update("".join(value for _, value in values).encode())
    if _value(cipher, "its MAC", metadata.get("mac"), metadata.get("lastmodified")) != digest.hexdigest().upper():
        raise Rejected("was changed without sops: its MAC is of other values", RESTORE)
    return dict(values)


def _data_key(path: Path, held: dict[str, Any], identity: "Identity") -> bytes:
    from pyrage import DecryptError, decrypt

    recipient = str(identity.to_public())
    stanzas = _stanzas(held)
    if recipient not in stanzas:
        repair = f"put that key into the file's rule in .sops.yaml, then `sops updatekeys {path}`"
        raise Rejected(f"is not encrypted to the server's age key, {recipient}", repair)
    try:
        return decrypt(stanzas[recipient].encode(), [identity])
    except DecryptError:
        raise Rejected(f"was changed without sops: {recipient} does not open it", RESTORE) from None


def _stanzas(held: dict[str, Any]) -> dict[str, str]:
    """The data key encrypted to each age recipient."""
    metadata = held.get("sops")
    stanzas = metadata.get("age") if isinstance(metadata, dict) else None
    entries = [entry for entry in stanzas if isinstance(entry, dict)] if isinstance(stanzas, list) else []
    return {entry.get("recipient", ""): entry.get("enc", "") for entry in entries}


def _value(cipher: "AESGCM", name: str, text: Any, authenticated: Any) -> str:
    from cryptography.exceptions import InvalidTag

    try:
        data, nonce, tag = (b64decode(part) for part in ENCRYPTED.fullmatch(text).groups())  # type: ignore[union-attr]
        return cipher.decrypt(nonce, data + tag, authenticated.encode()).decode()
    except (AttributeError, TypeError, ValueError, InvalidTag):
        raise Rejected(f"was changed without sops: {name} cannot be decrypted", RESTORE) from None


def _leaves(held: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Each value with its path as sops authenticates it: the keys, each with a colon; places in lists do not count."""
    if isinstance(held, dict):
        for key, value in held.items():
            if where or key != "sops":
                yield from _leaves(value, f"{where}{key}:")
    elif isinstance(held, list):
        for value in held:
            yield from _leaves(value, where)
    else:
        yield where, held
