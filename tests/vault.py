"""The part of Vault's transit engine that Pulumi's secrets provider `hashivault` uses: a key, in memory.

What it hands out as ciphertext is a number; the plain text is given out for it.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def vault() -> Iterator[str]:
    """The address at which it answers."""
    plaintexts: list[str] = []

    class Transit(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            match self.path.split("/"):
                case ["", "v1", "transit", "encrypt", _]:
                    plaintexts.append(asked["plaintext"])
                    self.answer({"ciphertext": f"vault:v1:{len(plaintexts) - 1}"})
                case ["", "v1", "transit", "decrypt", _]:
                    self.answer({"plaintext": plaintexts[int(asked["ciphertext"].rpartition(":")[2])]})
                case _:
                    self.send_error(501)

        do_POST = do_PUT

        def answer(self, data: dict[str, str]) -> None:
            body = json.dumps({"data": data}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Transit) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
