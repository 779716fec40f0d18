"""Makes what a stack lacks of keys and secrets, and changes nothing that is there.

In a terminal it first asks for the settings that a new stack lacks; each of them is also an option below.

In this order, each whole or not at all, so that after an interruption the next run continues there:

  the deploy key, the server's SSH host key, its age key   secrets of the stack, in Pulumi.STACK.yaml
  your age key                                             where sops looks for it
  a rule for the stack's SOPS file                         .sops.yaml, or what SOPS_CONFIG names
  headscale's noise key and API key                        the SOPS file, nix/secrets/STACK.yaml

Then the SOPS file is checked, as each preview does, and you are warned where you cannot open it yourself. Secrets go to
pulumi and sops by stdin; of all that is made, only your age key is ever on a disk in clear.
"""

import argparse
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

try:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from pyrage import x25519

    import rules
    import sops

    from . import operator_key, questions, sops_rules
    from .commands import PROGRAM, Refused, StackSettings, as_typed, atomic_write, exclusive_lock, require, run
except ImportError as lacking:
    raise SystemExit(
        f"scripts/init: {sys.executable} lacks the module {lacking.name}; `pulumi install` installs it"
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
    "factsKey": ("the key that may read the server's facts and nothing else", ssh_key),
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
    questions.add_flags(parser)
    arguments = parser.parse_args()
    config_file = arguments.config_file and arguments.config_file.absolute()
    os.chdir(PROGRAM)
    try:
        require("pulumi", "sops")
        with exclusive_lock(config_file.parent if config_file else PROGRAM):
            stack = StackSettings(arguments.stack, config_file)
            settle(stack, vars(arguments))
            init(stack, arguments.new_identity)
    except (Refused, OSError) as problem:
        raise SystemExit(f"scripts/init: {problem}") from None
    except (KeyboardInterrupt, EOFError):
        raise SystemExit("\nscripts/init: interrupted; another run makes what is still missing") from None


def settle(stack: StackSettings, flags: Mapping[str, str | None]) -> None:
    """Set what the flags say, and what the operator answers where this is a terminal."""
    if questions.came_along(stack) and not flags["domain"]:
        own, domain = as_typed(stack.config_file), stack.value("domain")
        print(f"{own} came with this repository, and {domain} is its maker's domain:")
        print("`scripts/init --domain YOURS --acme-email YOU@YOURS` puts your own there")
    for setting in questions.settle(stack, flags, in_terminal=sys.stdin.isatty() and sys.stdout.isatty()):
        print(f"set {setting}", flush=True)


def init(stack: StackSettings, new_identity: bool) -> None:
    config = Path(os.environ.get("SOPS_CONFIG") or ".sops.yaml")
    complete = True
    for what in make(stack, stack.secrets_file, config, new_identity):
        complete = False
        print(f"made {what}", flush=True)
    if complete:
        print(f"the stack {stack.name} has all its keys and secrets")
    committed = [as_typed(path) for path in (stack.config_file, config, stack.secrets_file)]
    print(f"Commit {', '.join(committed)}; what is secret in them is encrypted.")
    place = operator_key.place()
    own = f"your age key{f', {place}' if place.exists() else ''}"
    print("Back up, where only you can read it, what opens them: the stack's passphrase, or your access to its secrets")
    print(f"provider, and {own}.")
    warn_who_is_shut_out(stack)


def warn_who_is_shut_out(stack: StackSettings) -> None:
    """Warn an operator who cannot open the SOPS file: `pulumi up` needs only the server's key, editing needs yours."""
    file = stack.secrets_file
    if words := operator_key.refusal(file):
        remedy = operator_key.way_in(file, stack.name)
        print(f"scripts/init: warning: you cannot open {as_typed(file)}; {remedy}. sops: {words}", file=sys.stderr)


def make(stack: StackSettings, file: Path, config: Path, new_identity: bool) -> Iterator[str]:
    """Make what is missing, one thing after the other; yields what was made as soon as it is there."""
    refuse_what_would_leak(config, file)
    for key, (what, generate) in CONFIG_SECRETS.items():
        if not stack.has(key):
            stack.set(key, generate())
            yield f"{what}: headscale:{key} in {as_typed(stack.config_file)}"
    with about("headscale:hostAgeKey", "`pulumi config rm headscale:hostAgeKey` lets another run make another"):
        identity = rules.age_identity(stack.get("hostAgeKey"))
    with about(as_typed(file)):
        yield from make_rule(config, file, str(identity.to_public()))
        if not new_identity:
            keep_identity(stack, file, identity)
        yield from make_secrets(config, file, str(identity.to_public()))
        sops.checked(file, identity)


def refuse_what_would_leak(config: Path, file: Path) -> None:
    """Refuse a rule that leaves headscale's keys in clear, and an age key that git would take."""
    with about(f"{as_typed(config)}: its rule for {as_typed(file)}"):
        trial = sops_rules.encrypted(config, file, dict.fromkeys(HEADSCALE_KEYS, "trial"))
        sops.require_encrypted(trial or "", list(HEADSCALE_KEYS))
    place = operator_key.place().absolute()
    if place.is_relative_to(PROGRAM) and not ignored_by_git(place):
        raise Refused(
            f"your age key is, or would be, {as_typed(place)}: `git add` would take it along. Move it out of this "
            "directory, to ~/.config/sops/age/keys.txt for instance, and let SOPS_AGE_KEY_FILE name that place"
        )


def ignored_by_git(path: Path) -> bool:
    command = ["git", "-C", str(PROGRAM), "check-ignore", "--quiet", str(path)]
    return bool(shutil.which("git")) and subprocess.run(command, capture_output=True).returncode == 0


def keep_identity(stack: StackSettings, file: Path, identity: x25519.Identity) -> None:
    """Refuse to make another noise key where devices know headscale by the one that is not there."""
    if file.exists() and NOISE_KEY not in sops.missing(file):
        return
    has_server = stack.has_server()
    if not has_server and not sops.others(file, identity):
        return
    lost = f"lacks {NOISE_KEY}" if file.exists() else "does not exist"
    in_use = "has a server" if has_server else "has had such a file"
    another = "`scripts/init --new-identity` makes another, and every device must log in again, by hand"
    raise rules.Rejected(
        f"{lost}, and the stack {stack.name} {in_use}", f"{sops.whereabouts(file, identity)}; {another}"
    )


def make_rule(config: Path, file: Path, host: str) -> Iterator[str]:
    """Add a rule for the file: an existing one keeps its recipients; a new one is for you and the server."""
    if sops_rules.has_rule(config, file):
        return
    recipients = sops.recipients(file) if file.exists() else []
    if not recipients:
        if operator_key.is_missing():
            operator_key.make()
            yield f"your age key: {operator_key.place()}"
        recipients = [*operator_key.recipients(), host]
    sops_rules.add_rule(config, file, recipients, {host: "the server"})
    yield f"the rule that says who can open {as_typed(file)}: {as_typed(config)}"


def make_secrets(config: Path, file: Path, host: str) -> Iterator[str]:
    lacking = sops.missing(file) if file.exists() else list(HEADSCALE_KEYS)
    if not lacking:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    keys = {name: HEADSCALE_KEYS[name][1]() for name in lacking}
    with atomic_write(file) as new:
        if file.exists():
            add(new, file, dict.fromkeys(keys, "trial"))
            sops.require_encrypted(new.read_text(), lacking)
            add(new, file, keys)
        else:
            text = sops_rules.encrypted(config, file, keys) or ""
            sops.require_encrypted(text, lacking)
            new.write_text(text)
            require_server(new, config, file, host)
    yield f"{' and '.join(HEADSCALE_KEYS[name][0] for name in lacking)}: {as_typed(file)}, encrypted"


def require_server(new: Path, config: Path, file: Path, host: str) -> None:
    """Refuse a file that the server cannot open, before it takes its place."""
    if groups := sops.groups(new):
        own = sum(host in group for group in groups)
        raise Refused(
            f"{as_typed(config)}: the rule for {as_typed(file)} has {len(groups)} key_groups, and the server, {host}, "
            f"is in {own} of them: sops needs a key of each. Put all keys into one group"
        )
    if host not in sops.recipients(new):
        raise Refused(f"{as_typed(config)} does not let the server open {as_typed(file)}: add {host} to its rule")


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
