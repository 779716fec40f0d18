"""What the README says is what there is, and its commands do what it says."""

import os
import re
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from config import DECLARED
from rehearsal import plugins
from rehearsal.__main__ import _parser
from rehearsal.emulators.api import serve
from rehearsal.emulators.cloudflare import Cloudflare
from rehearsal.emulators.hetzner import Hetzner, NoMachines

PROGRAM = Path(__file__).resolve().parent.parent
README = (PROGRAM / "README.md").read_text()
SERVER_TYPED = ("export ", "pulumi up", "pulumi stack output")


def section(heading: str) -> str:
    return re.split(r"\n#+ ", README.split(f" {heading}\n", 1)[1])[0]


def rows(heading: str) -> list[list[str]]:
    lines = [line for line in section(heading).splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def test_the_table_of_configuration_has_every_key_with_its_default():
    table = {row[0].strip("`"): row[1] for row in rows("Configuration")}
    assert set(table) == set(DECLARED)
    for key, entry in DECLARED.items():
        said = table[key]
        if "default" not in entry:
            assert said == ("required, secret" if entry.get("secret") else "required"), key
        elif entry["default"] and key != "acmeServer":
            assert said == f"`{shown(entry['default'])}`", key


def shown(default: object) -> str:
    if isinstance(default, list):
        return f"[{', '.join(default)}]"
    return str(default).lower() if isinstance(default, bool) else str(default)


def test_the_table_of_outputs_has_every_output():
    exported = set(re.findall(r'pulumi\.export\("(\w+)"', (PROGRAM / "__main__.py").read_text()))
    assert {name for row in rows("Outputs") for name in re.findall(r"`(\w+)`", row[0])} == exported


def test_the_files_that_it_names_exist():
    for name in re.findall(r"`((?:\w+/)+[\w.-]*|\w+\.(?:py|yaml|md))`", README.replace("nix/secrets/STACK", "")):
        if name not in ("deployment.json",) and not name.endswith("mine.yaml"):
            assert (PROGRAM / name).exists(), name


def test_the_commands_of_the_rehearsal_exist():
    typed = re.findall(r"^ *(?:\./scripts/rehearse|python3 -m rehearsal)((?: +[^#\n]+)?)", README, re.MULTILINE)
    assert len(typed) >= 6
    for arguments in typed:
        _parser().parse_args(arguments.split())


@pytest.fixture
def operator(tmp_path: Path, engine: Path) -> dict[str, str]:
    """The environment of somebody who has the tokens and a fresh home, and whose clouds are emulators."""
    home = tmp_path / "home"
    plugins.install(home / ".pulumi", Path(sys.executable))
    plugins.install_hcloud(home / ".pulumi", engine)
    return {
        "HOME": str(home),
        "PULUMI_HOME": str(home / ".pulumi"),
        "PATH": f"{Path(sys.executable).parent}:{engine}:{os.environ['PATH']}",
        "PULUMI_BACKEND_URL": f"file://{home}",
        "PULUMI_CONFIG_PASSPHRASE": secrets.token_urlsafe(),
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        "PULUMI_IGNORE_AMBIENT_PLUGINS": "true",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "HCLOUD_TOKEN": secrets.token_hex(32),
        "CLOUDFLARE_API_TOKEN": secrets.token_hex(20),
    }


def test_its_commands_lead_from_nothing_to_a_preview(operator: dict[str, str], tmp_path: Path):
    project = tmp_path / "project"
    skipped = shutil.ignore_patterns(".git", "__pycache__", "rehearsal", "tests", ".*_cache")
    shutil.copytree(PROGRAM, project, ignore=skipped)
    blocks = re.findall(r"```sh\n(.*?)```", section("In production"), re.DOTALL)
    typed = "".join(block for block in blocks if not block.strip().startswith(SERVER_TYPED))
    typed = re.sub(r"^ *pulumi up\n", "", typed, flags=re.MULTILINE).replace("YOUR_ADDRESS", "198.51.100.10")
    hetzner = Hetzner(NoMachines(), operator["HCLOUD_TOKEN"])
    cloudflare = Cloudflare({"example.org": "0" * 32}, operator["CLOUDFLARE_API_TOKEN"])
    with serve(hetzner) as hetzner_url, serve(cloudflare) as cloudflare_url:
        endpoints = {"HCLOUD_ENDPOINT": hetzner_url, "CLOUDFLARE_BASE_URL": cloudflare_url}
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", typed],
            cwd=project,
            env=operator | endpoints,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\+ \d+ to create", done.stdout), done.stdout
    in_clear = re.compile(rb"BEGIN OPENSSH PRIVATE KEY|AGE-SECRET-KEY-1[0-9A-Z]{50}")
    written = [path for path in tmp_path.rglob("*") if path.is_file() and ".pulumi/plugins" not in str(path)]
    assert [path.name for path in written if in_clear.search(path.read_bytes())] == ["keys.txt"]
    assert "ENC[" in (project / "nix/secrets/mine.yaml").read_text()
