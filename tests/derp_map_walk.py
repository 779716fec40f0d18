"""Runs in the image: the program argv[1] refreshes a DERP map from an address that gives one answer after the other.

Reads from stdin {"environment": {...}, "answers": [[status, body, length or null] or null], ...]}: null is none at all,
and a length beyond the body's is a connection that breaks. Prints for each [exit status, error, map].
"""

import json
import os
import ssl
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CERTIFICATE, KEY = "/authority.crt", "/authority.key"
SELF_SIGNED = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
FOR_LOCALHOST = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")


class Tailscale(BaseHTTPRequestHandler):
    answer: Any = None
    over = threading.Event()

    def do_GET(self) -> None:
        if self.answer is None:
            self.over.wait()
            return
        status, body, length = self.answer
        self.send_response(status)
        self.send_header("Content-Length", str(length or len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: Any) -> None:
        pass


def serve() -> ThreadingHTTPServer:
    subprocess.run([*SELF_SIGNED, *FOR_LOCALHOST, "-out", CERTIFICATE, "-keyout", KEY], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, KEY)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Tailscale)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def main(refresh: str) -> None:
    request = json.load(sys.stdin)
    source = f"https://localhost:{serve().server_port}/"
    environment = {**os.environ, **request["environment"], "SOURCE": source, "CURL_CA_BUNDLE": CERTIFICATE}
    matches = []
    for Tailscale.answer in request["answers"]:
        process = subprocess.run([refresh], env=environment, capture_output=True, text=True)
        matches.append([process.returncode, process.stderr, Path(environment["MAP"]).read_text()])
    Tailscale.over.set()
    print(json.dumps(matches))


if __name__ == "__main__":
    main(sys.argv[1])
