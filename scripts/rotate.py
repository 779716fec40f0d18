"""Makes a new key in the place of one of the stack's; the next `pulumi up` brings it to the server.

  deploy-key   how we log in; the former one stays as headscale:formerDeployKey
  host-key     how the server shows that it is yours; the former's public half stays as headscale:formerSshHostKey
  age-key      how the server opens its SOPS file, which is encrypted to the new key instead of the former one

With the former key `pulumi up` reaches the server until it accepts the new one, and says when you can remove it.
Interrupted at any point, another run completes the change. Secrets go to pulumi by stdin.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

try:
    import rules
    import sops

    from .commands import PROGRAM, Refused, StackSettings, as_typed, atomic_write, exclusive_lock, require, run
    from .init import about, age_key, ssh_key
except ImportError as lacking:
    raise SystemExit(
        f"scripts/rotate: {sys.executable} lacks the module {lacking.name}; `pulumi install` installs it"
    ) from None


def main() -> None:
    parser = argparse.ArgumentParser(
        "scripts/rotate", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("key", choices=ROTATIONS)
    parser.add_argument("--stack", help="the stack (default: the selected one)")
    parser.add_argument("--config-file", type=Path, help="its configuration (default: Pulumi.STACK.yaml)")
    arguments = parser.parse_args()
    config_file = arguments.config_file and arguments.config_file.absolute()
    os.chdir(PROGRAM)
    try:
        require("pulumi", "sops")
        with exclusive_lock(config_file.parent if config_file else PROGRAM):
            print(ROTATIONS[arguments.key](StackSettings(arguments.stack, config_file)))
    except Refused as problem:
        raise SystemExit(f"scripts/rotate {arguments.key}: {problem}") from None
    except KeyboardInterrupt:
        raise SystemExit(f"scripts/rotate {arguments.key}: interrupted; another run completes it") from None


def rotate_deploy_key(stack: StackSettings) -> str:
    return _rotate_ssh_key(stack, "deployKey", "formerDeployKey", str.strip, secret=True)


def rotate_host_key(stack: StackSettings) -> str:
    return _rotate_ssh_key(stack, "sshHostKey", "formerSshHostKey", _public_half, secret=False)


def _rotate_ssh_key(stack: StackSettings, key: str, former: str, half: Callable[[str], str], secret: bool) -> str:
    """Set the former key first: after an interruption there it equals the configured one."""
    with about(f"headscale:{key}", "`scripts/init` makes one"):
        keep = half(stack.get(key))
    if stack.has(former) and stack.get(former).strip() not in ("", keep):
        raise Refused(
            f"the previous rotation is not finished: headscale:{former} still holds the key before this one. Run "
            f"`pulumi up`, then `pulumi config rm headscale:{former}`, then this again"
        )
    stack.set(former, keep, secret)
    stack.set(key, ssh_key())
    return (
        f"made a new key: headscale:{key} in {as_typed(stack.config_file)}\n"
        f"Now `pulumi up` brings it to the server; then `pulumi config rm headscale:{former}` removes the former one."
    )


def rotate_age_key(stack: StackSettings) -> str:
    """Write the new files beside the old ones, which they replace once the configuration has the key."""
    file, config = stack.secrets_file, Path(os.environ.get("SOPS_CONFIG") or ".sops.yaml")
    with about("headscale:hostAgeKey", "`scripts/init` makes one"):
        configured = _recipient(stack.get("hostAgeKey"))
    if configured in _recipients(file):
        new = age_key()
        _prepare(file, config, configured, _recipient(new))
        stack.set("hostAgeKey", new)
    elif configured not in _recipients(_beside(file)):
        raise Refused(
            f"{as_typed(file)} is not encrypted to the server's age key, {configured}; "
            f"put that key into the file's rule in {as_typed(config)}, then `sops updatekeys {as_typed(file)}`"
        )
    # The SOPS file comes last: until then, another run completes this one.
    for path in (config, file):
        if _beside(path).exists():
            _beside(path).replace(path)
    return (
        f"made a new age key: headscale:hostAgeKey in {as_typed(stack.config_file)}; {as_typed(file)} is encrypted "
        "to it\n"
        "Now `pulumi up` brings both to the server, which forgets the former key."
    )


def _prepare(file: Path, config: Path, former: str, new: str) -> None:
    with atomic_write(_beside(file)) as beside:
        beside.write_text(run("sops", "rotate", "--add-age", new, "--rm-age", former, str(file)))
    _beside(config).unlink(missing_ok=True)
    if config.exists() and former in config.read_text():
        with atomic_write(_beside(config)) as beside:
            beside.write_text(config.read_text().replace(former, new))


def _beside(path: Path) -> Path:
    return path.with_name(f".rotated-{path.name}")


def _recipients(file: Path) -> list[str]:
    return sops.recipients(file) if file.exists() else []


def _recipient(identity: str) -> str:
    return str(rules.age_identity(identity).to_public())


def _public_half(private: str) -> str:
    return rules.private_key(private.strip() + "\n")


ROTATIONS = {"deploy-key": rotate_deploy_key, "host-key": rotate_host_key, "age-key": rotate_age_key}

if __name__ == "__main__":
    main()
