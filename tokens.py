"""The clouds' tokens: where their providers find them, and the mistakes that are seen without asking a cloud.

A `get` gives the value of a key of the stack's configuration, such as hcloud:token; the providers prefer it to the
environment.
"""

import os
import re
from collections.abc import Callable

from rules import Rejected

Get = Callable[[str], str | None]
# hcloud's provider refuses any other.
HCLOUD_TOKEN_LENGTH = 64
HETZNER = (
    "HCLOUD_TOKEN, or `pulumi config set --secret hcloud:token`, is a token that may read and write; create one in "
    "Hetzner's console in the server's project, under Security, API tokens"
)
CLOUDFLARE = (
    "CLOUDFLARE_API_TOKEN, or `pulumi config set --secret cloudflare:apiToken`, is a token with Zone Read and DNS Edit "
    "for {zone}; headscale:zone names the zone that holds the names, where that is not headscale:domain"
)


def hetzner(get: Get) -> dict[str, str]:
    """The headers that carry Hetzner's token; Rejected, as the rest of a sentence about HCLOUD_TOKEN."""
    token = _value(get, "hcloud:token", "HCLOUD_TOKEN")
    if not token:
        raise Rejected("is not set", HETZNER)
    if len(token) != HCLOUD_TOKEN_LENGTH:
        raise Rejected(f"has {len(token)} letters, and Hetzner's have {HCLOUD_TOKEN_LENGTH}", HETZNER)
    return {"Authorization": f"Bearer {_printable(token, HETZNER)}"}


def cloudflare(get: Get, zone: str | None) -> dict[str, str]:
    """The headers that carry Cloudflare's token, or its older keys; Rejected, as in `hetzner`."""
    repair = CLOUDFLARE.format(zone=zone)
    if token := _value(get, "cloudflare:apiToken", "CLOUDFLARE_API_TOKEN"):
        return {"Authorization": f"Bearer {_printable(token, repair)}"}
    if key := _value(get, "cloudflare:apiKey", "CLOUDFLARE_API_KEY"):
        email = _value(get, "cloudflare:email", "CLOUDFLARE_EMAIL")
        return {"X-Auth-Key": _printable(key, repair), "X-Auth-Email": _printable(email, repair)}
    if key := _value(get, "cloudflare:apiUserServiceKey", "CLOUDFLARE_API_USER_SERVICE_KEY"):
        return {"X-Auth-User-Service-Key": _printable(key, repair)}
    raise Rejected("is not set", repair)


def _value(get: Get, key: str, variable: str) -> str:
    return get(key) or os.environ.get(variable) or ""


def _printable(token: str, repair: str) -> str:
    if not re.fullmatch("[!-~]*", token):
        raise Rejected("has a space, a line break or another letter in it that no token has", repair)
    return token
