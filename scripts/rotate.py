"""Makes a new key in the place of one that the stack has; the next `pulumi up` takes it to the server.

  deploy-key   how we log in; the former one stays as headscale:formerDeployKey
  host-key     how the server shows that it is yours; the former's public half stays as headscale:formerSshHostKey
  age-key      how the server opens its SOPS file, which is encrypted anew, to the new key instead of the former

With what stays of it, `pulumi up` reaches the server until it takes the new key, and says when you can forget it.
Interrupted at any point, another run completes the change. Secrets go to pulumi by stdin.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

try:
    from commands import PROGRAM, Refused, Stack, alone, replacing, require, run, shown
    from init import about, age_key, ssh_key

    import rules
    import sops
except ImportError as lacking:
    raise SystemExit(
        f"scripts/rotate: {sys.executable} has no module {lacking.name}; `pulumi install` brings it"
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
        with alone(config_file.parent if config_file else PROGRAM):
            print(ROTATIONS[arguments.key](Stack(arguments.stack, config_file)))
    except Refused as problem:
        raise SystemExit(f"scripts/rotate {arguments.key}: {problem}") from None
    except KeyboardInterrupt:
        raise SystemExit(f"scripts/rotate {arguments.key}: interrupted; another run completes it") from None


def rotate_deploy_key(stack: Stack) -> str:
    return _rotate_ssh_key(stack, "deployKey", "formerDeployKey", str.strip, secret=True)


def rotate_host_key(stack: Stack) -> str:
    return _rotate_ssh_key(stack, "sshHostKey", "formerSshHostKey", _public_half, secret=False)


def _rotate_ssh_key(stack: Stack, key: str, former: str, kept: Callable[[str], str], secret: bool) -> str:
    """The former key is set first: when there is nothing more of a run than that, it is the same as the configured."""
    with about(f"headscale:{key}", "`scripts/init` makes one"):
        keep = kept(stack.get(key))
    if stack.has(former) and stack.get(former).strip() not in ("", keep):
        raise Refused(
            f"headscale:{former} still holds the key before this one; run `pulumi up`, "
            f"then `pulumi config rm headscale:{former}`, and then this again if it shall be another key"
        )
    stack.set(former, keep, secret)
    stack.set(key, ssh_key())
    return (
        f"made a new key: headscale:{key} in {shown(stack.config_file)}\n"
        f"Now `pulumi up` takes it to the server; then `pulumi config rm headscale:{former}` forgets the former one."
    )


def rotate_age_key(stack: Stack) -> str:
    """The new files wait beside the old ones until the key that opens them is in the configuration."""
    file, config = stack.secrets_file, Path(os.environ.get("SOPS_CONFIG") or ".sops.yaml")
    with about("headscale:hostAgeKey", "`scripts/init` makes one"):
        configured = _recipient(stack.get("hostAgeKey"))
    if configured in _recipients(file):
        new = age_key()
        _prepare(file, config, configured, _recipient(new))
        stack.set("hostAgeKey", new)
    elif configured not in _recipients(_beside(file)):
        raise Refused(
            f"{shown(file)} is not encrypted to the server's age key, {configured}; "
            f"put that key into the file's rule in {shown(config)}, then `sops updatekeys {shown(file)}`"
        )
    # The SOPS file is the last: while it waits, another run knows that it is to complete this one.
    for path in (config, file):
        if _beside(path).exists():
            _beside(path).replace(path)
    return (
        f"made a new age key: headscale:hostAgeKey in {shown(stack.config_file)}; {shown(file)} is encrypted to it\n"
        "Now `pulumi up` takes both to the server, which forgets the former key."
    )


def _prepare(file: Path, config: Path, former: str, new: str) -> None:
    with replacing(_beside(file)) as beside:
        beside.write_text(run("sops", "rotate", "--add-age", new, "--rm-age", former, str(file)))
    _beside(config).unlink(missing_ok=True)
    if config.exists() and former in config.read_text():
        with replacing(_beside(config)) as beside:
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
