"""headscale's API, as far as throw-away devices need it; the key goes to the server of the stack alone."""

import http.client
import json
import ssl
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

from .report import NotChecked, Wrong
from .target import Target
from .tls import connection

# A key that a killed run leaves behind is soon worth nothing.
KEY_LIFE = timedelta(minutes=10)
TRIES = 5


class HeadscaleApi:
    """Calls by the stack's API key, over connections whose certificate is right."""

    def __init__(self, target: Target, key: str) -> None:
        self._target, self._key = target, key

    def users(self) -> list[dict[str, Any]]:
        return list(self._call("GET", "user").get("users") or [])

    def nodes(self, user: str) -> list[dict[str, Any]]:
        return list(self._call("GET", f"node?user={user}").get("nodes") or [])

    def make_user(self, name: str) -> str:
        return str(self._call("POST", "user", {"name": name})["user"]["id"])

    def make_key(self, user: str) -> str:
        """A pre-auth key for devices that headscale forgets once they are gone."""
        expiration = (datetime.now(UTC) + KEY_LIFE).isoformat(timespec="seconds").replace("+00:00", "Z")
        request = {"user": user, "reusable": True, "ephemeral": True, "expiration": expiration}
        return str(self._call("POST", "preauthkey", request)["preAuthKey"]["key"])

    def keys(self, name: str) -> list[dict[str, Any]]:
        keys = self._call("GET", "preauthkey").get("preAuthKeys") or []
        return [key for key in keys if (key.get("user") or {}).get("name") == name]

    def remove_user(self, user: dict[str, Any]) -> None:
        """Remove a user with its devices and keys."""
        for node in self.nodes(user["name"]):
            self._call("DELETE", f"node/{node['id']}", gone_is_right=True)
        self._call("DELETE", f"user/{user['id']}", gone_is_right=True)

    def _call(
        self, method: str, path: str, body: dict[str, Any] | None = None, gone_is_right: bool = False
    ) -> dict[str, Any]:
        status, text = _patiently(lambda: self._ask(method, f"/api/v1/{path}", body))
        if status == 403 and self._target.admits_ui() is not True:
            raise NotChecked("the API is closed to this machine, which is not in headscale:uiAllowedNetworks")
        if status != 200 and not (gone_is_right and status in (404, 500) and "not found" in text):
            raise Wrong(f"headscale's API answers {status} to {method} {path.partition('?')[0]}: {text[:200]}")
        return dict(json.loads(text)) if status == 200 else {}

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        name = self._target.ui
        try:
            with connection(self._target, name) as secure, closing(http.client.HTTPConnection(name)) as exchange:
                exchange.sock = secure
                exchange.request(method, path, body=json.dumps(body) if body else None, headers=headers)
                answer = exchange.getresponse()
                return answer.status, answer.read().decode(errors="replace")
        except ssl.SSLCertVerificationError as problem:
            raise NotChecked(
                f"the API key goes to no server with a wrong certificate: {problem.verify_message}"
            ) from None


def _patiently(ask: Callable[[], tuple[int, str]]) -> tuple[int, str]:
    """Wait a little where a limit refuses."""
    for _ in range(TRIES):
        status, text = ask()
        if status != 429:
            break
        time.sleep(1)
    return status, text
