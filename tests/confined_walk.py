"""Runs in the image: a unit's commands under strace as systemd would run them, with requests of others in between.

Reads from stdin {"trace": [...], "before": [...], "start": "...", "after": [...], "reload": [...], "port": 80, "asks":
[[...], ...], "environment": {...}} as JSON; each traced thread leaves a file of its own where `trace` says.
"""

import json
import os
import shlex
import socket
import subprocess
import sys
import time


def await_port(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def main() -> None:
    walk = json.load(sys.stdin)
    for command in walk["before"]:
        subprocess.run([*walk["trace"], *shlex.split(command)], check=True)
    with subprocess.Popen([*walk["trace"], *shlex.split(walk["start"])]) as main_process:
        try:
            await_port(walk["port"])
            environment = os.environ | walk["environment"] | {"MAINPID": str(main_process.pid)}
            for command in [*walk["after"], *walk["reload"]]:
                argv = shlex.split(command.replace("$MAINPID", str(main_process.pid)))
                subprocess.run([*walk["trace"], *argv], check=True, env=environment)
            for ask in walk["asks"]:
                subprocess.run(ask, check=True, stdout=subprocess.DEVNULL)
        finally:
            main_process.terminate()


if __name__ == "__main__":
    main()
