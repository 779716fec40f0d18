"""SSH keys of the Hetzner API."""

import base64
import hashlib

from rehearsal.emulators.api import ApiError, Json, Request, Response, Route, only, route
from rehearsal.emulators.hetzner import fields
from rehearsal.emulators.hetzner.endpoints import Collection
from rehearsal.emulators.hetzner.resources import SshKey, invalid


class SshKeys(Collection[SshKey]):
    kind = "ssh_keys"

    def routes(self) -> list[Route]:
        return [
            route("POST", "/ssh_keys", self.create),
            route("DELETE", "/ssh_keys/{id}", self.delete),
            *super().routes(),
        ]

    def shape(self, item: SshKey) -> Json:
        return super().shape(item) | {"public_key": item.public_key, "fingerprint": item.fingerprint}

    def create(self, request: Request) -> Response:
        body = request.body
        only(body, ("name", "public_key", "labels"), "field")
        name, labels = fields.name(body, self.items), fields.labels(body)
        public_key = str(body.get("public_key", ""))
        digest = fingerprint(public_key)
        if any(key.fingerprint == digest for key in self.items.values()):
            raise ApiError(409, "SSH key with the same fingerprint already exists", "uniqueness_error")
        id = self.project.next_id()
        key = SshKey(id=id, name=name, labels=labels, public_key=public_key, fingerprint=digest)
        self.project.ssh_keys[id] = key
        return self.answer(key, 201)

    def delete(self, request: Request, id: str) -> Response:
        del self.project.ssh_keys[self.find(id).id]
        return Response(status=204)


def fingerprint(public_key: str) -> str:
    """The MD5 of the key, which is what Hetzner shows."""
    try:
        kind, blob, *_ = public_key.split()
        content = base64.b64decode(blob, validate=True)
    except ValueError as error:
        raise invalid("public_key", f"not an SSH public key: {error}") from error
    if content[4 : 4 + len(kind)] != kind.encode():
        raise invalid("public_key", f"not an SSH public key of type {kind}")
    return hashlib.md5(content, usedforsecurity=False).digest().hex(":")
