"""A cloud's API, only read: one GET at a time, every page of a list, and the cloud's own words where it refuses."""

import http.client
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPRedirectHandler, Request, build_opener

from scripts.commands import Refused

HETZNER = "https://api.hetzner.cloud/v1"
DEADLINE = 10.0
# Cloudflare refuses the name by which Python's client introduces itself.
AGENT = {"User-Agent": "headscale-doctor"}


class Unanswered(Refused):
    """The answer did not come, or was not one of the API: another try may help."""


class _NoRedirects(HTTPRedirectHandler):
    """Takes a redirect for an error: followed, it would carry the token elsewhere."""

    def redirect_request(self, *_: Any) -> None:
        return None


OPEN = build_opener(_NoRedirects).open


class CloudApi:
    """`next_page` takes a page of a list, and gives the number of the next one, or None."""

    def __init__(self, url: str, headers: Mapping[str, str], next_page: Callable[[dict[str, Any]], int | None]) -> None:
        self.url = url.rstrip("/")
        self._headers, self._next_page = headers, next_page

    def list(self, path: str, key: str, **query: str) -> list[Any]:
        """All items of a list, which is called `key` in the answer."""
        items: list[Any] = []
        page: int | None = 1
        while page:
            answer = self.answer(f"{path}?{urlencode(query | {'page': str(page), 'per_page': '50'})}")
            try:
                items += answer[key]
                page = self._next_page(answer)
            except (KeyError, TypeError):
                raise Unanswered(f"an answer of another form came from {self.url}/{path}") from None
        return items

    def answer(self, path: str) -> dict[str, Any]:
        """The answer of a page, or of what is not a list."""
        try:
            answer: dict[str, Any] = json.loads(get(f"{self.url}/{path}", self._headers))
            return answer
        except HTTPError as error:
            refusal = Refused if 400 <= error.code < 500 and error.code != 429 else Unanswered
            raise refusal(f"{error.code}, {_words(error)}") from None
        except ValueError:
            raise Unanswered(f"something that is not JSON came from {self.url}") from None


def hetzner(url: str, headers: Mapping[str, str]) -> CloudApi:
    return CloudApi(url, headers, lambda page: page["meta"]["pagination"]["next_page"])


def get(url: str, headers: Mapping[str, str]) -> bytes:
    """The body of the answer; HTTPError where it is an error, Unanswered where there is none."""
    try:
        with OPEN(Request(url, headers=AGENT | dict(headers)), timeout=DEADLINE) as response:
            body: bytes = response.read()
            return body
    except HTTPError:
        raise
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        raise Unanswered(f"no answer from {url.partition('?')[0]}: {reason}") from None


def _words(error: HTTPError) -> str:
    """The messages of an error in Hetzner's form or in Cloudflare's."""
    try:
        with error:
            answer = json.loads(error.read())
        return "; ".join(entry["message"] for entry in answer.get("errors") or [answer["error"]])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, http.client.HTTPException):
        return error.reason
