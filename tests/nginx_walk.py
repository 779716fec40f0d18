"""Runs in the image: nginx with the configuration of argv[1], something that echoes in headscale's place, one walk.

Reads requests from stdin as JSON ([name, method, path, headers, from where]...), the last one the address of a client
that the loopback interface gets first; prints [status, headers, body] for each.
"""

import http.client
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Echo(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps(dict(self.headers)).encode()
        refused = self.headers["Authorization"] == "Bearer wrong" or self.headers["X-Refuse"]
        self.send_response(401 if refused else 200)
        self.send_header("Content-Length", str(len(body)))
        for name in ("X-Frame-Options", "Content-Security-Policy", "Referrer-Policy", "X-Content-Type-Options"):
            self.send_header(name, "headscale's own")
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_GET

    def log_message(self, *_: Any) -> None:
        pass


def connected(client: str) -> socket.socket:
    """Connect once that is possible: nginx listens, and the kernel has put in the route to a new IPv6 address."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return socket.create_connection((client, 443), timeout=10, source_address=(client, 0))
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def connected_from(client: str) -> socket.socket:
    if client != "127.0.0.1":
        # An IPv6 address cannot be used while it is looked for among others.
        flags = ["nodad"] if ":" in client else []
        subprocess.run(["ip", "address", "replace", client, "dev", "lo", *flags], check=True)
    return connected(client)


def ask(name: str, method: str, path: str, headers: dict[str, str], client: str = "127.0.0.1") -> list[Any]:
    context = ssl._create_unverified_context()
    raw = context.wrap_socket(connected_from(client), server_hostname=name)
    connection = http.client.HTTPConnection(name)
    connection.sock = raw
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    return [answer.status, answer.getheaders(), answer.read().decode()]


def main(configuration: str) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 8085), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with (
        open("/var/log/nginx/stderr", "w") as log,
        subprocess.Popen(["nginx", "-c", configuration], stderr=log) as nginx,
    ):
        try:
            connected("127.0.0.1").close()
            print(json.dumps([ask(*request) for request in json.load(sys.stdin)]))
        finally:
            nginx.terminate()


if __name__ == "__main__":
    main(sys.argv[1])
