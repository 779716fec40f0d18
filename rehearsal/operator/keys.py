"""The secrets of a rehearsal's stack, made for each run by scripts/init, as an operator makes them."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from rehearsal.operator.stack import Stack


@dataclass(frozen=True, kw_only=True)
class StackSecrets:
    """Private SSH keys are in OpenSSH's form, as in a file."""

    deploy_key: str
    ssh_host_key: str
    host_age_key: str
    facts_key: str
    api_key: str
    noise_key: str


def make(stack: Stack) -> StackSecrets:
    """Have them made, and read them back."""
    stack.make_secrets()
    return keys_of(stack)


def keys_of(stack: Stack) -> StackSecrets:
    """The secrets that Pulumi and sops hold now."""
    values = stack.secrets()
    return StackSecrets(
        deploy_key=f"{values['headscale:deployKey'].strip()}\n",
        ssh_host_key=f"{values['headscale:sshHostKey'].strip()}\n",
        host_age_key=values["headscale:hostAgeKey"],
        # The program of the last release makes none.
        facts_key=f"{values.get('headscale:factsKey', '').strip()}\n",
        api_key=values["headscale_api_key"],
        noise_key=values["headscale_noise_private_key"],
    )


def ssh_key(path: Path) -> str:
    """A new private key, made at `path`."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", path], check=True)
    return path.read_text()


def public_key(private: str) -> str:
    """The first two words of a public key file: the type and the key."""
    derive = ["ssh-keygen", "-y", "-f", "/dev/stdin"]
    process = subprocess.run(derive, input=private, check=True, capture_output=True, text=True)
    return " ".join(process.stdout.split()[:2])
