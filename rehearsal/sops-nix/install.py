"""Opens secrets into a new generation and lists the units that must hear of it: `install.py MANIFEST SOPS`."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

GENERATIONS = Path("/run/secrets.d")
CURRENT = Path("/run/secrets")
LISTS = {"restartUnits": "activation-restart-list", "reloadUnits": "activation-reload-list"}


def opened(sops: str, file: str, key_file: str) -> dict[str, Any]:
    command = [sops, "--decrypt", "--input-type", "yaml", "--output-type", "json", file]
    environment = {"SOPS_AGE_KEY_FILE": key_file, "HOME": "/root", "PATH": "/usr/bin"}
    process = subprocess.run(command, env=environment, capture_output=True, text=True)
    if process.returncode != 0:
        raise SystemExit(f"failed to decrypt {file} with {key_file}: {process.stderr.strip()}")
    values: dict[str, Any] = json.loads(process.stdout)
    return values


def write(directory: Path, secret: dict[str, Any], value: str) -> None:
    path = directory / secret["name"]
    path.touch(mode=0o600)
    path.write_text(value)
    shutil.chown(path, secret["owner"], secret["group"])
    path.chmod(int(secret["mode"], 8))


def changed(former: Path, secret: dict[str, Any], value: str) -> bool:
    path = former / str(secret["name"])
    return path.exists() and path.read_text() != value


def tell(secret: dict[str, Any]) -> None:
    for option, name in LISTS.items():
        with open(Path("/run/nixos") / name, "a") as units:
            units.writelines(f"{unit}\n" for unit in secret[option])


def next_generation() -> Path:
    numbers = [int(path.name) for path in GENERATIONS.iterdir()] if GENERATIONS.exists() else []
    GENERATIONS.mkdir(mode=0o751, exist_ok=True)
    directory = GENERATIONS / str(max(numbers, default=0) + 1)
    directory.mkdir(mode=0o751)
    return directory


def point(path: Path, target: Path) -> None:
    beside = path.with_name(f"{path.name}.tmp")
    beside.unlink(missing_ok=True)
    beside.symlink_to(target)
    beside.replace(path)


def main(manifest: dict[str, Any], sops: str) -> None:
    files = {file: opened(sops, file, manifest["keyFile"]) for file in {s["sopsFile"] for s in manifest["secrets"]}}
    os.umask(0o026)
    Path("/run/nixos").mkdir(exist_ok=True)
    directory = next_generation()
    for secret in manifest["secrets"]:
        content = files[secret["sopsFile"]]
        if secret["key"] not in content:
            raise SystemExit(f"the key '{secret['key']}' cannot be found in {secret['sopsFile']}")
        value = str(content[secret["key"]])
        write(directory, secret, value)
        if changed(CURRENT, secret, value):
            tell(secret)
    former = CURRENT.resolve() if CURRENT.exists() else None
    point(CURRENT, directory)
    if former is not None:
        shutil.rmtree(former)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()), sys.argv[2])
