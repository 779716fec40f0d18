"""A real sshd for tests, on a port of its own, that lets in who holds one generated key."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def make_key(file: Path, kind: str = "ed25519") -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", file], check=True)
    return file


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@dataclass
class Sshd:
    directory: Path
    port: int
    accept_env: str = "GREETING"
    process: subprocess.Popen[bytes] | None = None

    @classmethod
    def prepare(cls, directory: Path) -> "Sshd":
        user = make_key(directory / "user")
        make_key(directory / "host")
        shutil.copy(user.with_suffix(".pub"), directory / "authorized")
        return cls(directory, free_port())

    @property
    def connection(self) -> dict[str, Any]:
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "user": getpass.getuser(),
            "privateKey": (self.directory / "user").read_text(),
            "hostKey": (self.directory / "host.pub").read_text(),
        }

    def start(self) -> None:
        assert PROGRAM, "sshd is missing: install openssh-server"
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        options = {
            "HostKey": self.directory / "host",
            "AuthorizedKeysFile": self.directory / "authorized",
            "AcceptEnv": self.accept_env,
            "PidFile": "none",
            "StrictModes": "no",
            "UsePAM": "no",
            "MaxStartups": "100",
        }
        arguments = [f"-o{key}={value}" for key, value in options.items()]
        command = [PROGRAM, "-D", "-e", "-f", "/dev/null", "-p", str(self.port), "-oListenAddress=127.0.0.1"]
        with (self.directory / "log").open("wb") as log:
            self.process = subprocess.Popen([*command, *arguments], stderr=log)

    def await_listening(self) -> None:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise TimeoutError(f"sshd is not listening: {(self.directory / 'log').read_text()}")

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait()
