"""The stand-in provider plugins as the real engine sees them."""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import PluginsProgram
from sshd import Sshd, make_key

from rehearsal import plugins
from rehearsal.emulators.api import serve
from rehearsal.emulators.cloudflare import Cloudflare

CANARY = "canary-7f3a-in-the-clear"
ZONE = "0123456789abcdef0123456789abcdef"


def command(sshd: Sshd, **changes: Any) -> dict[str, Any]:
    """A command that writes its name to a file on the host whenever it runs."""
    arguments = {"connection": sshd.connection, "create": f"echo create >> {ran(sshd)}", "logging": "none"}
    more = {key: changes.pop(key) for key in ("secret", "options") if key in changes}
    return {"kind": "command", "arguments": arguments | changes, **more}


def ran(sshd: Sshd) -> Path:
    return sshd.directory / "ran"


def test_a_command_runs_again_for_a_changed_input_and_for_nothing_else(project: PluginsProgram, sshd: Sshd) -> None:
    update = f"echo update >> {ran(sshd)}"
    project.describe({"it": command(sshd)})
    project.up()
    project.preview("--expect-no-changes")
    project.up("--expect-no-changes")
    project.up("--refresh", "--expect-no-changes")
    assert ran(sshd).read_text().split() == ["create"]

    project.describe({"it": command(sshd, stdin="new")})
    assert "no changes were expected" in project.preview("--expect-no-changes", expect=7)
    project.up()
    project.describe({"it": command(sshd, stdin="new", update=update)})
    project.up()
    assert ran(sshd).read_text().split() == ["create", "create", "update"]

    project.run("destroy", "--yes", "--skip-preview")
    assert ran(sshd).read_text().split() == ["create", "create", "update"]


def test_changed_triggers_replace_even_with_an_update_command(project: PluginsProgram, sshd: Sshd) -> None:
    written = {"update": f"echo update >> {ran(sshd)}", "delete": f"echo delete >> {ran(sshd)}"}
    project.describe({"it": command(sshd, triggers=["one"], **written)})
    project.up()
    before = project.resources()["it"]["id"]
    project.describe({"it": command(sshd, triggers=["two"], **written)})
    project.up()
    assert ran(sshd).read_text().split() == ["create", "create", "delete"]
    assert project.resources()["it"]["id"] != before


def test_secrets_are_not_in_the_state_in_clear(project: PluginsProgram, sshd: Sshd) -> None:
    project.describe({"it": command(sshd, create="cat; echo done", stdin=CANARY, secret=["stdin"])})
    project.up()
    outputs = project.resources()["it"]["outputs"]
    # The official provider does not know that stdout repeats a secret; only the program can say so.
    assert outputs["stdout"] == f"{CANARY}done"
    assert {"ciphertext"} < outputs["stdin"].keys() and {"ciphertext"} < outputs["connection"].keys()

    options = {"additional_secret_outputs": ["stdout", "stderr"]}
    hidden = command(sshd, create="cat; echo done.", stdin=CANARY, secret=["stdin"], options=options)
    project.describe({"it": hidden})
    project.up()
    assert CANARY not in project.state()
    assert "PRIVATE KEY" not in project.state()
    assert "ciphertext" in project.resources()["it"]["outputs"]["stdout"]


def test_a_failed_create_leaves_nothing_and_a_failed_update_leaves_the_old(project: PluginsProgram, sshd: Sshd) -> None:
    failing = command(sshd, create="echo why >&2; exit 4")
    project.describe({"it": failing})
    output = project.up(expect=1)
    assert 'Process exited with status 4: running "echo why >&2; exit 4":\n' in re.sub(r"\n +", "\n", output)
    assert "why" in output and "Unexpected" not in output and "rehearsal/plugins" not in output
    assert "it" not in project.resources()

    project.describe({"it": command(sshd)})
    project.up()
    project.describe({"it": failing})
    project.up(expect=1)
    assert project.resources()["it"]["inputs"]["create"] == command(sshd)["arguments"]["create"]


def test_lines_are_shown_while_the_command_runs(project: PluginsProgram, sshd: Sshd) -> None:
    project.describe({"it": command(sshd, create="echo first; sleep 1; echo second >&2", logging="stdoutAndStderr")})
    output = project.up()
    assert output.index("first") < output.index("second") < output.index("created")


def test_a_preview_calls_nothing_and_outputs_are_unknown(project: PluginsProgram, sshd: Sshd) -> None:
    sshd.stop()
    project.describe({"it": command(sshd)}, exports={"out": ["it", "stdout"]})
    output = project.preview()
    assert "+ command:remote:Command" in output and "[unknown]" in output


def test_a_wrong_host_key_is_refused(project: PluginsProgram, sshd: Sshd) -> None:
    other = make_key(sshd.directory / "other").with_suffix(".pub").read_text()
    project.describe({"it": command(sshd, connection=sshd.connection | {"hostKey": other, "dialErrorLimit": 1})})
    assert "after 1 failed attempts: ssh: handshake failed: ssh: host key mismatch" in project.up(expect=1)
    assert not ran(sshd).exists()


def record(**changes: Any) -> dict[str, Any]:
    values = {"zone_id": ZONE, "name": "a.example.org", "type": "A", "content": "203.0.113.10", "ttl": 300}
    return {"kind": "record", "arguments": values | changes}


def test_dns_records_live_and_drift(project: PluginsProgram) -> None:
    emulator = Cloudflare({"example.org": ZONE}, CANARY)
    with serve(emulator) as url:
        project.environment.update(CLOUDFLARE_API_TOKEN=CANARY, CLOUDFLARE_BASE_URL=url)
        project.describe({"a": record(), "txt": record(type="TXT", content="x")}, zone="example.org")
        project.up()
        assert project.outputs() == {"zone": ZONE, "zones": [ZONE]}
        project.preview("--refresh", "--expect-no-changes")
        assert CANARY not in project.state()

        change(emulator, "A", content="203.0.113.66")
        project.preview("--expect-no-changes")
        assert "203.0.113.66" in project.preview("--refresh", "--expect-no-changes", expect=7)
        project.up("--refresh")
        assert contents(emulator) == ["203.0.113.10", "x"]

        forget(emulator, "TXT")
        assert "Record does not exist." in project.run("destroy", "--yes", "--skip-preview", expect=1)
        project.run("destroy", "--yes", "--skip-preview", "--refresh")
        assert contents(emulator) == []


def test_a_comment_that_a_person_wrote_stays(project: PluginsProgram) -> None:
    """With the options that components/dns.py gives its records."""
    emulator = Cloudflare({"example.org": ZONE}, CANARY)
    options = {"ignore_changes": ["comment", "tags", "settings"]}
    with serve(emulator) as url:
        project.environment.update(CLOUDFLARE_API_TOKEN=CANARY, CLOUDFLARE_BASE_URL=url)
        project.describe({"a": record() | {"options": options}})
        project.up()
        change(emulator, "A", comment="our VPN, ask Ann")
        project.preview("--refresh", "--expect-no-changes")
        project.describe({"a": record(content="203.0.113.11") | {"options": options}})
        project.up("--refresh")
        assert [(dns_record.content, dns_record.comment) for dns_record in emulator.records.values()] == [
            ("203.0.113.11", "our VPN, ask Ann")
        ]
        project.preview("--refresh", "--expect-no-changes")
        project.run("destroy", "--yes", "--skip-preview")


def change(emulator: Cloudflare, kind: str, **changes: Any) -> None:
    """Change the record of that type behind the engine's back."""
    (old,) = [record for record in emulator.records.values() if record.type == kind]
    emulator.records[old.id] = replace(old, **changes)


def forget(emulator: Cloudflare, kind: str) -> None:
    emulator.records = {key: record for key, record in emulator.records.items() if record.type != kind}


def contents(emulator: Cloudflare) -> list[str]:
    return sorted(record.content for record in emulator.records.values())


def test_versions_are_those_of_the_required_sdks() -> None:
    required = (plugins.PROJECT / "requirements.txt").read_text()
    assert {f"pulumi-{name}=={version}" for name, version in plugins.VERSIONS.items()} <= set(required.split())


def test_official_plugins_are_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    theirs = plugins.official("command")
    theirs.parent.mkdir(parents=True)
    theirs.write_text("official")
    plugins.install(tmp_path / "home", Path("python"))
    plugins.install(tmp_path / "home", Path("python"))
    place = tmp_path / "home/plugins"
    assert (place / "resource-command-v1.2.1/pulumi-resource-command").resolve() == theirs
    plugins.install(tmp_path / "me/.pulumi", Path("python"))
    assert theirs.read_text() == "official"
    stand_in = place / "resource-cloudflare-v6.23.1/pulumi-resource-cloudflare"
    assert not stand_in.is_symlink() and os.access(stand_in, os.X_OK)


def test_the_hcloud_plugin_is_taken_from_the_programs(tmp_path: Path) -> None:
    program = tmp_path / "pulumi-resource-hcloud"
    program.touch()
    plugins.install_hcloud(tmp_path, tmp_path)
    assert (tmp_path / "plugins/resource-hcloud-v1.43.3/pulumi-resource-hcloud").resolve() == program
