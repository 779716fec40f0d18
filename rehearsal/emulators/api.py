"""The base of the cloud emulators: JSON over HTTP/1.1, routes, a bearer token, a log of the requests, and faults.

An API brings its own error shape. Whatever it does not model is answered with 501 in that shape and
remembered in `unexpected`, so that a run can fail on it. Faults happen only when they are asked for, as `faults.py`
tells. Not modelled: TLS, rate limits of its own, read-only tokens.
"""

import json
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, NamedTuple
from urllib.parse import parse_qs, urlsplit

from rehearsal.emulators.faults import Fault

Json = dict[str, Any]


class ApiError(Exception):
    """A refusal in the API's own words; without a code the API's usual one for the status is used."""

    def __init__(self, status: int, message: str, code: str | int | None = None, details: Json | None = None):
        super().__init__(message)
        self.status, self.message, self.code, self.details = status, message, code, details


class NotModelled(Exception):
    """The real API can do this, the emulator cannot."""


class Call(NamedTuple):
    """A request and the status that its client got, 0 where the connection was dropped."""

    method: str
    path: str
    status: int


@dataclass(frozen=True)
class Request:
    query: Mapping[str, list[str]] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Response:
    """JSON; a text is sent as a page of HTML."""

    body: Json | str | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[..., Response]


@dataclass(frozen=True)
class Route:
    method: str
    pattern: re.Pattern[str]
    handler: Handler


def route(method: str, path: str, handler: Handler) -> Route:
    """`{...}` in the path stands for one segment; the handler gets the segments after the request."""
    return Route(method, re.compile(re.sub(r"\{\w+\}", "([^/]+)", path)), handler)


def only(fields: Mapping[str, Any], modelled: Iterable[str], what: str) -> None:
    """Refuse what is set but not modelled, instead of ignoring it."""
    unknown = sorted({name for name, value in fields.items() if value} - set(modelled))
    if unknown:
        raise NotModelled(f"{what} {', '.join(unknown)}")


class Api:
    prefix: ClassVar[str]
    codes: ClassVar[Mapping[int, str | int]]
    error_headers: ClassVar[Mapping[str, str]] = {}

    def __init__(self, token: str) -> None:
        self.lock = threading.RLock()
        self.calls: list[Call] = []
        self.unexpected: list[str] = []
        self.faults: list[Fault] = []
        self._token = token

    @cached_property
    def _routes(self) -> Sequence[Route]:
        return self.routes()

    def routes(self) -> Sequence[Route]:
        raise NotImplementedError

    def error_body(self, error: ApiError, code: str | int) -> Json:
        raise NotImplementedError

    def fail(self, *faults: Fault) -> None:
        """Have these faults, each as often as it says; those that have not struck yet are in `faults`."""
        with self.lock:
            self.faults += [fault for fault in faults for _ in range(fault.times)]

    def respond(self, method: str, target: str, authorization: str, content: bytes) -> Response | None:
        """Answer one request, None to drop its connection. Every request passes here and nowhere else."""
        url = urlsplit(target)

        def work() -> Response:
            with self.lock:
                return self._answer(method, url.path, parse_qs(url.query), authorization, content)

        fault = self._next_fault(method, url.path)
        response = fault.strike(work, lambda: self._injected(fault)) if fault else work()
        self.calls.append(Call(method, url.path, response.status if response else 0))
        return response

    def _next_fault(self, method: str, path: str) -> Fault | None:
        below = path.removeprefix(self.prefix.rstrip("/"))
        with self.lock:
            fault = next((fault for fault in self.faults if fault.strikes(method, below)), None)
            if fault:
                self.faults.remove(fault)
        return fault

    def _injected(self, fault: Fault) -> Response:
        status, message = fault.status or 500, f"injected fault of {fault.request}"
        if fault.code is None:
            return Response(f"<html><title>{status}: {message}</title></html>", status)
        return Response(self.error_body(ApiError(status, message), fault.code), status)

    def _answer(
        self, method: str, path: str, query: Mapping[str, list[str]], authorization: str, content: bytes
    ) -> Response:
        try:
            if authorization != f"Bearer {self._token}":
                raise ApiError(401, "unable to authenticate")
            handler, segments = self._match(method, path)
            return handler(Request(query, _object(content)), *segments)
        except ApiError as error:
            return self._refuse(error)
        except NotModelled as error:
            self.unexpected.append(f"{method} {path}: {error}")
            return self._refuse(ApiError(501, f"the emulator does not model {method} {path}: {error}"))
        except Exception as error:
            self.unexpected.append(f"{method} {path}: {type(error).__name__}: {error}")
            traceback.print_exc()
            return self._refuse(ApiError(500, f"the emulator failed on {method} {path}: {error}"))

    def _match(self, method: str, path: str) -> tuple[Handler, Sequence[str]]:
        prefix = self.prefix.rstrip("/")
        for candidate in self._routes if path.startswith(prefix + "/") else ():
            match = candidate.pattern.fullmatch(path.removeprefix(prefix))
            if match and candidate.method == method:
                return candidate.handler, match.groups()
        raise NotModelled("no such route")

    def _refuse(self, error: ApiError) -> Response:
        body = self.error_body(error, error.code or self.codes[error.status])
        return Response(body, error.status, self.error_headers)


def _object(content: bytes) -> Mapping[str, Any]:
    try:
        body = json.loads(content or b"{}")
    except ValueError as error:
        raise ApiError(400, f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise ApiError(400, "the body is not a JSON object")
    return body


def _encoded(body: Json | str | None) -> tuple[bytes, str]:
    if isinstance(body, str):
        return body.encode(), "text/html"
    return b"" if body is None else json.dumps(body).encode(), "application/json"


def _request_handler(api: Api) -> type[BaseHTTPRequestHandler]:
    class RequestHandler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body leave in one segment: sent apart, they wait 40 ms for a delayed acknowledgement.
        wbufsize = -1
        disable_nagle_algorithm = True

        def answer(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            authorization = self.headers.get("Authorization", "")
            response = api.respond(self.command, self.path, authorization, content)
            if response is None:
                self.close_connection = True
                return
            body, kind = _encoded(response.body)
            self.send_response(response.status)
            for name, value in response.headers.items():
                self.send_header(name, value)
            if response.status != 204:
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

        def log_message(self, format: str, *args: object) -> None:
            pass

    return RequestHandler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A kept-alive connection of a client that has not gone yet must not hold up the end.
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serve(api: Api, *, port: int = 0) -> Iterator[str]:
    """Serve an API on 127.0.0.1 and give the base URL that its clients are configured with."""
    with _Server(("127.0.0.1", port), _request_handler(api)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}{api.prefix}"
        finally:
            server.shutdown()
            thread.join()
