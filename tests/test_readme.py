"""The README and the other pages describe what exists, and their commands do what they say."""

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
PAGES = [*PROGRAM.glob("*.md"), *PROGRAM.glob("docs/*.md"), PROGRAM / "rehearsal/README.md"]
NOT_TYPED = ("git clone", "pulumi up", "pulumi stack output")
READ = ("HCLOUD_TOKEN", "CLOUDFLARE_API_TOKEN", "PULUMI_CONFIG_PASSPHRASE")
ANSWERS = "--domain example.org --acme-email me@example.org --admin-network 198.51.100.10"


def section(heading: str) -> str:
    return re.split(r"\n#+ ", README.split(f" {heading}\n", 1)[1])[0]


def rows(heading: str) -> list[list[str]]:
    lines = [line for line in section(heading).splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def test_the_table_of_configuration_has_every_key_with_its_default():
    table = {row[0].strip("`"): row[1] for row in rows("Configuration")}
    assert set(table) == set(DECLARED)
    for key, entry in DECLARED.items():
        output = table[key]
        if "default" not in entry:
            assert output == ("required, secret" if entry.get("secret") else "required"), key
        elif entry["default"] and key != "acmeServer":
            assert output == f"`{as_text(entry['default'])}`", key


def as_text(default: object) -> str:
    if isinstance(default, list):
        return f"[{', '.join(default)}]"
    return str(default).lower() if isinstance(default, bool) else str(default)


def test_the_table_of_outputs_has_every_output():
    exported = set(re.findall(r'pulumi\.export\("(\w+)"', (PROGRAM / "__main__.py").read_text()))
    assert {name for row in rows("Outputs") for name in re.findall(r"`(\w+)`", row[0])} == exported


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_files_that_a_page_names_exist(page: Path):
    for name in re.findall(r"`(?:\./)?((?:\w+/)+[\w.-]+|\w+\.(?:py|yaml|md))`", page.read_text()):
        if not name.startswith("nix/secrets/") and not name.endswith("mine.yaml"):
            assert (PROGRAM / name).exists() or (page.parent / name).exists(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_links_of_a_page_lead_somewhere(page: Path):
    for place, anchor in re.findall(r"\]\((?!https:)([^)#]*)#?([^)]*)\)", page.read_text()):
        target = (page.parent / place) if place else page
        headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
        assert not anchor or anchor in [re.sub(r"[^\w -]", "", text).lower().replace(" ", "-") for text in headings]


def test_every_page_is_linked_from_the_readme():
    assert {f"docs/{page.name}" for page in PROGRAM.glob("docs/*.md")} <= set(re.findall(r"\]\(([^)#]*)", README))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_keys_that_a_page_sets_exist(page: Path):
    typed = re.findall(r"pulumi config (?:set|rm|get) (?:--\w+ )*'?(?:headscale:)?(\w+)", page.read_text())
    assert set(typed) <= {*DECLARED, "KEY"}


def test_the_stories_that_are_listed_are_those_there_are():
    listed = re.findall(r"^\| `(\w+)` \|", (PROGRAM / "rehearsal/README.md").read_text(), re.MULTILINE)
    assert set(listed) == {path.stem for path in (PROGRAM / "rehearsal/stories").glob("[!_]*.py")}


def test_the_commands_of_the_rehearsal_exist():
    pages = README + (PROGRAM / "rehearsal/README.md").read_text()
    typed = re.findall(r"^ *(?:\./scripts/rehearse|python3 -m rehearsal)((?: +[^#\n]+)?)", pages, re.MULTILINE)
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
    typed = "".join(block for block in blocks if not block.strip().startswith(NOT_TYPED))
    typed = re.sub(r"^ *pulumi up\n", "", typed, flags=re.MULTILINE).replace("scripts/init", f"scripts/init {ANSWERS}")
    typed = typed.replace("YOUR_ADDRESS", "198.51.100.10")
    hetzner = Hetzner(NoMachines(), operator["HCLOUD_TOKEN"])
    cloudflare = Cloudflare({"example.org": "0" * 32}, operator["CLOUDFLARE_API_TOKEN"])
    with serve(hetzner) as hetzner_url, serve(cloudflare) as cloudflare_url:
        endpoints = {"HCLOUD_ENDPOINT": hetzner_url, "CLOUDFLARE_BASE_URL": cloudflare_url}
        process = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", typed],
            cwd=project,
            env={name: value for name, value in operator.items() if name not in READ} | endpoints,
            input="".join(f"{operator[name]}\n" for name in READ),
            capture_output=True,
            text=True,
        )
    assert process.returncode == 0, process.stdout + process.stderr
    assert re.search(r"\+ \d+ to create", process.stdout), process.stdout
    in_clear = re.compile(rb"BEGIN OPENSSH PRIVATE KEY-----(?:\\n|\s)*b3Blbn|AGE-SECRET-KEY-1[0-9A-Z]{50}")
    written = [path for path in tmp_path.rglob("*") if path.is_file() and ".pulumi/plugins" not in str(path)]
    assert [path.name for path in written if in_clear.search(path.read_bytes())] == ["keys.txt"]
    assert "ENC[" in (project / "nix/secrets/mine.yaml").read_text()
