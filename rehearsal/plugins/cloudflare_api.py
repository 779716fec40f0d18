"""Calls of Cloudflare's API, with the retries of its Go library. Of a list it reads the first page only."""

import http.client
import json
import re
import time
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urljoin

from rehearsal.plugins.serve import Failure

RETRIES, FIRST_DELAY, LONGEST_DELAY = 10, 2.0, 30.0
LONGEST_REQUESTED_DELAY = 60.0


class CloudflareError(Failure):
    """An answer that is not a success, as Cloudflare's Go library writes it: with the body."""

    def __init__(self, call: str, error: urllib.error.HTTPError) -> None:
        words = error.read()[:1000].decode(errors="replace")
        super().__init__(f"failed to make http request: {call}: {error.code} {error.reason} {words}")
        self.status = error.code
        self.retry_after = error.headers.get("Retry-After", "")
        self.should_retry = error.headers.get("x-should-retry", "")


class CloudflareApi:
    def __init__(self, url: str, token: str) -> None:
        self.url, self.token = url, token

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The `result` of one call; its path is relative to the URL, which therefore ends in a slash."""
        for failed in range(RETRIES + 1):
            try:
                return self._once(method, urljoin(self.url, path), body)
            except Failure as failure:
                if failed == RETRIES or not _passing(failure):
                    raise
                time.sleep(_delay(failure, failed))
        raise AssertionError("the last attempt returns or raises")

    def _once(self, method: str, url: str, body: dict[str, Any] | None) -> Any:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["result"]
        except urllib.error.HTTPError as error:
            raise CloudflareError(f'{method} "{url}"', error) from error
        except (OSError, http.client.HTTPException) as error:
            raise Failure(f"{method} {url}: no answer: {error}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{method} {url}: the answer has not Cloudflare's form: {error!r}") from error


def _passing(failure: Failure) -> bool:
    if not isinstance(failure, CloudflareError):
        return True
    if failure.should_retry in ("true", "false"):
        return failure.should_retry == "true"
    return failure.status in (408, 409, 429) or failure.status >= 500


def _delay(failure: Failure, failed: int) -> float:
    asked = getattr(failure, "retry_after", "")
    if asked.isdecimal() and float(asked) < LONGEST_REQUESTED_DELAY:
        return float(asked)
    return min(FIRST_DELAY * 2.0**failed, LONGEST_DELAY)


def camel(value: Any) -> Any:
    """The API's JSON with the engine's spelling of its keys."""
    if isinstance(value, dict):
        return {re.sub(r"_(\w)", lambda match: match[1].upper(), key): camel(item) for key, item in value.items()}
    return [camel(item) for item in value] if isinstance(value, list) else value


def snake(value: Any) -> Any:
    """The engine's values with the API's spelling of their keys."""
    if isinstance(value, dict):
        return {re.sub(r"[A-Z]", lambda match: f"_{match[0].lower()}", key): snake(item) for key, item in value.items()}
    return [snake(item) for item in value] if isinstance(value, list) else value
