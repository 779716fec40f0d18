"""The rules of a stack's SOPS file: the server can open it, and headscale can use what is in it.

It is opened as on the server: with the server's age identity, each value authenticated, and all of them by the file's
MAC. Values in clear are compared with their forms and kept nowhere. Sources: SOPS 3 (README, "Encryption Protocol", and
sops.go), headscale 0.29 (hscontrol/db/api_key.go), tailscale.com/types/key.MachinePrivate.
"""

import os
import re
from base64 import b64decode
from collections.abc import Iterator, Sequence
from hashlib import sha512
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

import rules
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
# Settings of a rule by which sops leaves values in clear; `unencrypted_suffix` is _unencrypted by default.
PARTIAL = ("encrypted_regex", "unencrypted_regex", "encrypted_suffix", "unencrypted_suffix")
RESTORE = "restore it from git or from a backup"
OTHER_FILE = "`pulumi config set --plaintext headscale:secretsFile ...` names another"


class _Loader(yaml.BaseLoader):
    """Reads YAML as sops writes it: without aliases, and without a key twice."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise Rejected("has YAML aliases in it, which sops does not take", RESTORE)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [name.value for name, _ in node.value]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise Rejected(f"has {twice} twice", f"take one of them out, and `sops edit` the file, or {RESTORE}")
        return super().construct_mapping(node, deep=True)


def checked(path: Path, identity: "Identity | None") -> Path:
    """A file that the server's `identity` opens and that holds both keys; not opened where that is None.

    Where several of sops' key groups have to open it, it is not opened: the server's key has to be in enough of them.
    """
    if not os.path.exists(path):
        raise Rejected("does not exist", whereabouts(path, identity))
    content = encrypted(path)
    if identity is not None and not _has_enough_groups(content, str(identity.to_public())):
        values = _opened(path, content, identity)
        for name, (form, described) in FORMS.items():
            if name not in values:
                raise Rejected(f"lacks {name}", "`scripts/init` adds it")
            if not re.fullmatch(form, values[name]):
                another = f"`sops unset {path} '[\"{name}\"]'`, and `scripts/init` makes another"
                raise Rejected(f"holds a {name} that is not {described}", another)
    return path


def whereabouts(path: Path, identity: "Identity | None") -> str:
    """The places where a stack's former file may be, with the command that brings it back."""
    for other in others(path, identity):
        use = f"`pulumi config set --plaintext headscale:secretsFile {other}` uses it, as `mv {other} {path}` does"
        return f"{other} is encrypted to this stack's server: {use}"
    return (
        "for a new stack `scripts/init` makes it. A stack that has a server needs the file of that server, since "
        f"headscale's identity is in it: `git log --all -- {path}` finds it in git, and "
        f"`ssh root@$(pulumi stack output serverIpv4) cat {ON_THE_SERVER} >{path}` fetches the server's copy"
    )


def others(path: Path, identity: "Identity | None") -> list[Path]:
    """Other files beside it that are encrypted to the same server: this file, under a former name of the stack."""
    # The text may not be a path at all.
    if identity is None or not os.path.isdir(path.parent):
        return []
    # A scripts/init that was killed leaves a hidden one, which no server was given.
    beside = (other for other in sorted(path.parent.glob("[!.]*.yaml")) if other != path)
    return [other for other in beside if str(identity.to_public()) in recipients(other)]


def missing(path: Path) -> list[str]:
    """The names of headscale's keys that an encrypted file lacks."""
    content = encrypted(path)
    return [name for name in FORMS if not content.get(name)]


def encrypted(path: Path) -> dict[str, Any]:
    """The content of the file, every value of it encrypted; all scalars are text."""
    content = _read(path)
    if not content:
        raise Rejected("is empty", f"{RESTORE}; for a new stack delete it, and `scripts/init` makes another")
    if not isinstance(content.get("sops"), dict):
        if any(text.startswith("ENC[") for _, text in _leaves(content)):
            raise Rejected("was cut off: its values are encrypted, and its `sops` entry is missing", RESTORE)
        raise Rejected("is not encrypted: it has no `sops` entry", f"`sops encrypt --in-place {path}`")
    if clear := [where.rstrip(":") for where, text in _leaves(content) if text and not text.startswith("ENC[")]:
        repair = f"take it out of the file, and `sops edit {path}` puts it in again, encrypted"
        raise Rejected(f"holds {', '.join(clear)} in clear", repair)
    return content


def require_encrypted(text: str, names: Sequence[str]) -> None:
    """Reject a SOPS file's text that has values of these names in clear, and say which setting did it."""
    document = yaml.load(text, _Loader) or {}
    clear = [name for name in names if not str(document.get(name, "ENC[")).startswith("ENC[")]
    if clear:
        settings = [f"{name}: {document['sops'][name]}" for name in PARTIAL if name in document["sops"]]
        raise Rejected(
            f"leaves {' and '.join(clear)} in clear ({', '.join(settings)})",
            "put a rule without that before it, with a path_regex of this file",
        )


def recipients(path: Path) -> list[str]:
    """The age keys that the file is encrypted to."""
    return list(_stanzas(_read(path)))


def _read(path: Path) -> dict[str, Any]:
    if not os.path.exists(path):
        raise Rejected("does not exist", "`scripts/init` makes it")
    try:
        content = yaml.load(rules.file(str(path)).read_text(), _Loader)
    except Rejected as problem:
        raise Rejected(str(problem), problem.repair or OTHER_FILE) from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        raise Rejected("cannot be read as YAML", RESTORE) from None
    if content is not None and not isinstance(content, dict):
        raise Rejected(
            "is not encrypted: it is not a YAML mapping with a `sops` entry", f"`sops encrypt --in-place {path}`"
        )
    return content or {}


def _opened(path: Path, content: dict[str, Any], identity: "Identity") -> dict[str, str]:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    cipher = AESGCM(_data_key(path, content, identity))
    values = [(where[:-1], _value(cipher, where[:-1], text, where)) for where, text in _leaves(content) if text]
    metadata = content["sops"]
    digest = sha512(MAC_ONLY_ENCRYPTED if metadata.get("mac_only_encrypted") == "true" else b"")
    digest.update("".join(value for _, value in values).encode())
    if _value(cipher, "its MAC", metadata.get("mac"), metadata.get("lastmodified")) != digest.hexdigest().upper():
        raise Rejected("was changed without sops: its MAC is of other values", RESTORE)
    return dict(values)


def _data_key(path: Path, content: dict[str, Any], identity: "Identity") -> bytes:
    from pyrage import DecryptError, decrypt

    recipient = str(identity.to_public())
    stanzas = _stanzas(content)
    if recipient not in stanzas:
        repair = f"put that key into the file's rule in .sops.yaml, then `sops updatekeys {path}`"
        raise Rejected(f"is not encrypted to the server's age key, {recipient}", repair)
    try:
        return decrypt(stanzas[recipient].encode(), [identity])
    except DecryptError:
        raise Rejected(f"was changed without sops: {recipient} does not open it", RESTORE) from None


def groups(path: Path) -> list[list[str]]:
    """The age keys of each of the file's key groups, where it has several; `shamir_threshold` of them open it."""
    return [list(_stanzas({"sops": group})) for group in _groups(_read(path))]


def _has_enough_groups(content: dict[str, Any], recipient: str) -> bool:
    """True where the file has several key groups and this recipient alone opens it; Rejected where it does not."""
    if not (several := _groups(content)):
        return False
    own = sum(recipient in _stanzas({"sops": group}) for group in several)
    needed = int(content["sops"].get("shamir_threshold") or len(several))
    if own < needed:
        raise Rejected(
            f"has {len(several)} key groups, {needed} of which have to open it, and the server's age key, {recipient}, "
            f"is in {own}",
            "put all keys into one group of the file's rule in .sops.yaml, then `sops updatekeys` the file",
        )
    return True


def _groups(content: dict[str, Any]) -> list[dict[str, Any]]:
    metadata = content.get("sops")
    several = metadata.get("key_groups") if isinstance(metadata, dict) else None
    return [group for group in several if isinstance(group, dict)] if isinstance(several, list) else []


def _stanzas(content: dict[str, Any]) -> dict[str, str]:
    """The data key encrypted to each age recipient."""
    metadata = content.get("sops")
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


def _leaves(content: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Each value with its path as sops authenticates it: the keys, each with a colon; places in lists do not count."""
    if isinstance(content, dict):
        for key, value in content.items():
            if where or key != "sops":
                yield from _leaves(value, f"{where}{key}:")
    elif isinstance(content, list):
        for value in content:
            yield from _leaves(value, where)
    else:
        yield where, content
