"""The secrets of a rehearsal's stack, made anew for each run: SSH keys, age identities, the SOPS file."""

import json
import secrets
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class StackSecrets:
    """`sops_file` is encrypted to the host and the operator, whose age identity lies in `operator_age_key`."""

    deploy_key: str
    ssh_host_key: str
    host_age_key: str
    api_key: str
    sops_file: Path
    operator_age_key: Path

    def config(self) -> dict[str, str]:
        """The secret configuration keys with their values."""
        return {
            "deployKey": self.deploy_key,
            "sshHostKey": self.ssh_host_key,
            "hostAgeKey": self.host_age_key,
        }


def make(directory: Path, programs: Path) -> StackSecrets:
    """Make every secret of a stack below `directory`, with the real ssh-keygen, age-keygen and sops."""
    directory.mkdir(mode=0o700, exist_ok=True)
    api_key = f"hskey-api-{secrets.token_urlsafe(9)}-{secrets.token_urlsafe(48)}"
    host_age_key, host = age_identity(programs)
    operator_age_key, operator = age_identity(programs)
    (directory / "operator").write_text(operator_age_key)
    return StackSecrets(
        deploy_key=ssh_key(directory / "deploy"),
        ssh_host_key=ssh_key(directory / "host"),
        host_age_key=host_age_key,
        api_key=api_key,
        sops_file=sops_file(
            directory / "secrets.yaml",
            {"headscale_api_key": api_key, "headscale_noise_private_key": f"privkey:{secrets.token_hex(32)}"},
            recipients=[host, operator],
            programs=programs,
        ),
        operator_age_key=directory / "operator",
    )


def ssh_key(path: Path) -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", path], check=True)
    return path.read_text()


def age_identity(programs: Path) -> tuple[str, str]:
    """A new age identity and its recipient."""
    made = subprocess.run([programs / "age-keygen"], check=True, capture_output=True, text=True).stdout
    identity = next(line for line in made.splitlines() if line.startswith("AGE-SECRET-KEY-"))
    recipient = next(line for line in made.splitlines() if line.startswith("# public key: "))
    return identity, recipient.removeprefix("# public key: ")


def sops_file(path: Path, values: dict[str, str], recipients: list[str], programs: Path) -> Path:
    """Write `values` encrypted by sops to the age `recipients`."""
    encrypt = [
        programs / "sops",
        *("encrypt", "--age", ",".join(recipients)),
        *("--input-type", "json", "--output-type", "yaml", "--filename-override", path.name, "/dev/stdin"),
    ]
    done = subprocess.run(encrypt, check=True, capture_output=True, text=True, input=json.dumps(values))
    path.write_text(done.stdout)
    return path
