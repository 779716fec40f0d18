"""What the next boot undoes of a deploy that nobody confirmed."""

import json

import pytest
from server_image import ServerImage, sample_system

STATE, DATABASE = "/var/lib/deployment", "/var/lib/headscale/db.sqlite"
OLD, NEW = "/nix/store/old-system", "/nix/store/new-system"


@pytest.fixture
def server(server: ServerImage) -> ServerImage:
    server.output("rm", "-rf", STATE, "/var/lib/headscale")
    server.put(f"{STATE}/before.sqlite", "before")
    server.put(DATABASE, "later")
    server.put(f"{DATABASE}-wal", "later still")
    return server


def undo(server: ServerImage, runs: str, before: str, after: str) -> str:
    """Run the program with a deploy pending; the database it leaves, with its write-ahead log."""
    pending = {"system": NEW, "previous": OLD, "headscale": {"before": before, "after": after}}
    server.put(f"{STATE}/pending.json", json.dumps(pending))
    server.output(f"{sample_system()}/sw/bin/undo-deployment", runs)
    return server.output("sh", "-c", f"cat {DATABASE}*")


def left(server: ServerImage) -> set[str]:
    return set(server.output("ls", STATE).split())


def test_the_database_of_before_fits_to_the_headscale_of_before(server: ServerImage):
    assert undo(server, OLD, "0.29.3", "0.30.0") == "before"
    assert left(server) == {"before.sqlite", "reason"}
    assert "rebooted" in server.read(f"{STATE}/reason")


def test_the_database_stays_when_headscale_is_the_same(server: ServerImage):
    assert undo(server, OLD, "0.29.3", "0.29.3") == "laterlater still"
    assert left(server) == {"before.sqlite", "reason"}


def test_a_reboot_into_the_new_system_undoes_nothing(server: ServerImage):
    assert undo(server, NEW, "0.29.3", "0.30.0") == "laterlater still"
    assert left(server) == {"before.sqlite"}


def test_the_reason_that_is_known_already_stays(server: ServerImage):
    server.put(f"{STATE}/reason", "sshd: waited in vain")
    undo(server, OLD, "0.29.3", "0.29.3")
    assert server.read(f"{STATE}/reason") == "sshd: waited in vain"


def test_without_a_deploy_that_waits_nothing_happens(server: ServerImage):
    server.output(f"{sample_system()}/sw/bin/undo-deployment", OLD)
    assert server.output("sh", "-c", f"cat {DATABASE}*") == "laterlater still"


def test_killed_anywhere_it_begins_anew(server: ServerImage):
    """bash ends by itself before the n-th command; what is left must still be enough to put the database back."""
    program = server.output("readlink", "-f", f"{sample_system()}/sw/bin/undo-deployment").strip()
    pending = {"system": NEW, "headscale": {"before": "0.29.3", "after": "0.30.0"}}
    for steps in range(3, 40):
        server.put(DATABASE, "later")
        server.put(f"{DATABASE}-wal", "later still")
        server.put(f"{STATE}/pending.json", json.dumps(pending))
        server.put("/dies.sh", f"n=0; trap '[ $((n += 1)) -lt {steps} ] || kill -KILL $$' DEBUG; set -T; . {program}\n")
        died = server.run("bash", "/dies.sh", OLD).returncode != 0
        server.output(program, OLD)
        assert server.output("sh", "-c", f"cat {DATABASE}*") == "before", f"killed before command {steps}"
        if not died:
            return
    raise AssertionError("the program has more commands than were tried")
