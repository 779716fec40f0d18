"""Makes what a stack lacks of keys and secrets, and changes nothing that is there.

In this order, each whole or not at all, so that whatever ends a run, the next one goes on there:

  the deploy key, the server's SSH host key, its age key   secrets of the stack, in Pulumi.STACK.yaml
  your age key                                             where sops looks for it
  a rule for the stack's SOPS file                         .sops.yaml, or what SOPS_CONFIG names
  headscale's noise key and API key                        the SOPS file, nix/secrets/STACK.yaml

Then the SOPS file is checked, as each preview does. Secrets go to pulumi and sops by stdin; of all that is made, only
your age key ever lies on a disk in clear.
"""

import argparse
import json
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import operator_key
    import sops_rules
    from commands import PROGRAM, Refused, Stack, alone, replacing, require, run, shown
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from pyrage import x25519

    import rules
    import sops
except ImportError as lacking:
    raise SystemExit(
        f"scripts/init: {sys.executable} has no module {lacking.name}; `pulumi install` brings it"
    ) from None


def ssh_key() -> str:
    form = serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    return Ed25519PrivateKey.generate().private_bytes(*form).decode()


def age_key() -> str:
    return str(x25519.Identity.generate())


def noise_key() -> str:
    return f"privkey:{secrets.token_hex(32)}"


def api_key() -> str:
    return f"hskey-api-{secrets.token_urlsafe(9)}-{secrets.token_urlsafe(48)}"


CONFIG_SECRETS = {
    "deployKey": ("the deploy key", ssh_key),
    "sshHostKey": ("the server's SSH host key", ssh_key),
    "hostAgeKey": ("the server's age key", age_key),
}
NOISE_KEY = "headscale_noise_private_key"
HEADSCALE_KEYS = {
    NOISE_KEY: ("headscale's noise key", noise_key),
    "headscale_api_key": ("headscale's API key", api_key),
}


def main() -> None:
    parser = argparse.ArgumentParser("scripts/init", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--stack", help="the stack (default: the selected one)")
    parser.add_argument("--config-file", type=Path, help="its configuration (default: Pulumi.STACK.yaml)")
    parser.add_argument(
        "--new-identity",
        action="store_true",
        help="make another noise key for a stack that has a server: every device must then log in again, by hand",
    )
    arguments = parser.parse_args()
    config_file = arguments.config_file and arguments.config_file.absolute()
    os.chdir(PROGRAM)
    try:
        require("pulumi", "sops")
        with alone(config_file.parent if config_file else PROGRAM):
            init(Stack(arguments.stack, config_file), arguments.new_identity)
    except (Refused, OSError) as problem:
        raise SystemExit(f"scripts/init: {problem}") from None
    except KeyboardInterrupt:
        raise SystemExit("scripts/init: interrupted; another run makes what is still missing") from None


def init(stack: Stack, new_identity: bool) -> None:
    config = Path(os.environ.get("SOPS_CONFIG") or ".sops.yaml")
    made = False
    for what in make(stack, stack.secrets_file, config, new_identity):
        made = True
        print(f"made {what}", flush=True)
    if not made:
        print(f"the stack {stack.name} has all its keys and secrets")
    committed = [shown(path) for path in (stack.config_file, config, stack.secrets_file)]
    print(f"Commit {', '.join(committed)}; what is secret in them is encrypted.")
    place = operator_key.place()
    own = f"your age key{f', {place}' if place.exists() else ''}"
    print("Back up, where only you can read it, what opens them: the stack's passphrase, or your access to its secrets")
    print(f"provider, and {own}.")


def make(stack: Stack, file: Path, config: Path, new_identity: bool) -> Iterator[str]:
    """Make what is missing, one thing after the other; yields what was made as soon as it is there."""
    for key, (what, generate) in CONFIG_SECRETS.items():
        if not stack.has(key):
            stack.set(key, generate())
            yield f"{what}: headscale:{key} in {shown(stack.config_file)}"
    with about("headscale:hostAgeKey", "`pulumi config rm headscale:hostAgeKey` lets another run make another"):
        identity = rules.age_identity(stack.get("hostAgeKey"))
    with about(shown(file)):
        yield from make_rule(config, file, str(identity.to_public()))
        if not new_identity:
            keep_identity(stack, file, identity)
        yield from make_secrets(config, file, str(identity.to_public()))
        sops.checked(file, identity)


def keep_identity(stack: Stack, file: Path, identity: x25519.Identity) -> None:
    """Refuse to make another noise key where devices know headscale by the one that is not there."""
    if (file.exists() and NOISE_KEY not in sops.missing(file)) or not stack.has_server():
        return
    lost = f"has no {NOISE_KEY}" if file.exists() else "does not exist"
    anew = "`scripts/init --new-identity` makes another, and every device must log in again, by hand"
    raise rules.Rejected(
        f"{lost}, and the stack {stack.name} has a server", f"{sops.whereabouts(file, identity)}; {anew}"
    )


def make_rule(config: Path, file: Path, host: str) -> Iterator[str]:
    """Who can open a file that is there goes on to; a new one is for you and the server."""
    if sops_rules.has_rule(config, file):
        return
    recipients = sops.recipients(file) if file.exists() else []
    if not recipients:
        if operator_key.is_missing():
            operator_key.make()
            yield f"your age key: {operator_key.place()}"
        recipients = [*operator_key.recipients(), host]
    sops_rules.add_rule(config, file, recipients, {host: "the server"})
    yield f"the rule that says who can open {shown(file)}: {shown(config)}"


def make_secrets(config: Path, file: Path, host: str) -> Iterator[str]:
    lacking = sops.missing(file) if file.exists() else list(HEADSCALE_KEYS)
    if not lacking:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    made = {name: HEADSCALE_KEYS[name][1]() for name in lacking}
    with replacing(file) as new:
        if file.exists():
            add(new, file, made)
        else:
            new.write_text(encrypted(config, file, made))
            if host not in sops.recipients(new):
                raise Refused(f"{shown(config)} does not let the server open {shown(file)}: add {host} to its rule")
    yield f"{' and '.join(HEADSCALE_KEYS[name][0] for name in lacking)}: {shown(file)}, encrypted"


def encrypted(config: Path, file: Path, values: dict[str, str]) -> str:
    # Where SOPS_AGE_RECIPIENTS or its like is set, sops does not look at its rules.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SOPS_")}
    types = ("--input-type", "json", "--output-type", "yaml", "--filename-override", str(file.absolute()))
    command = ("sops", "--config", str(config), "encrypt", *types, "/dev/stdin")
    return run(*command, stdin=json.dumps(values), environment=environment)


def add(new: Path, file: Path, values: dict[str, str]) -> None:
    shutil.copyfile(file, new)
    for name, value in values.items():
        run("sops", "set", "--value-stdin", str(new), json.dumps([name]), stdin=json.dumps(value))


@contextmanager
def about(subject: str, repair: str = "") -> Iterator[None]:
    try:
        yield
    except rules.Rejected as problem:
        raise Refused(f"{subject} {problem}; {problem.repair or repair}") from None


if __name__ == "__main__":
    main()
