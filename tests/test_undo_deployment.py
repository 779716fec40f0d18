"""A reboot undoes a deploy that was not confirmed."""

import json

import pytest
from server_image import ServerImage, sample_system

STATE, DATABASE = "/var/lib/deployment", "/var/lib/headscale/db.sqlite"
OLD, NEW = "/systems/old", "/systems/new"


@pytest.fixture
def server(server: ServerImage) -> ServerImage:
    """A server whose deploy from OLD to NEW, of the same headscale, waits to be confirmed."""
    server.output("rm", "-rf", STATE, "/var/lib/headscale", "/systems")
    server.put(f"{STATE}/before/db.sqlite", "before")
    server.put(f"{STATE}/pending.json", json.dumps({"system": NEW, "previous": OLD}))
    server.put(DATABASE, "later")
    server.put(f"{DATABASE}-wal", "later still")
    for system in (OLD, NEW):
        server.put(f"{system}/etc/headscale/version", "0.29.3")
    server.output("cp", "-rL", f"{sample_system()}/etc/deployment", f"{NEW}/etc/deployment")
    return server


def undo(server: ServerImage, running: str) -> str:
    """Run the program; the database it leaves, with its write-ahead log."""
    server.output(f"{sample_system()}/sw/bin/undo-deployment", running)
    return server.output("sh", "-c", f"cat {DATABASE}*")


def files(server: ServerImage) -> set[str]:
    return set(server.output("ls", STATE).split())


def test_the_former_headscale_gets_its_database_again(server: ServerImage):
    server.put(f"{NEW}/etc/headscale/version", "0.30.0")
    assert undo(server, OLD) == "before"
    assert files(server) == {"before", "reason"}
    assert "rebooted" in server.read(f"{STATE}/reason")


def test_the_database_stays_when_headscale_is_the_same(server: ServerImage):
    assert undo(server, OLD) == "laterlater still"
    assert files(server) == {"before", "reason"}


def test_a_database_that_was_not_saved_stays(server: ServerImage):
    server.put(f"{NEW}/etc/headscale/version", "0.30.0")
    server.output("rm", f"{STATE}/before/db.sqlite")
    assert undo(server, OLD) == "laterlater still"


def test_a_reboot_into_the_new_system_undoes_nothing(server: ServerImage):
    server.put(f"{NEW}/etc/headscale/version", "0.30.0")
    assert undo(server, NEW) == "laterlater still"
    assert files(server) == {"before"}


def test_a_system_on_trial_keeps_waiting(server: ServerImage):
    server.put(f"{STATE}/trial", "")
    assert undo(server, NEW) == "laterlater still"
    assert files(server) == {"before", "pending.json", "trial"}


def test_a_trial_ends_with_a_boot_of_the_former_system(server: ServerImage):
    server.put(f"{NEW}/etc/headscale/version", "0.30.0")
    server.put(f"{STATE}/trial", "")
    assert undo(server, OLD) == "before"
    assert files(server) == {"before", "reason"}


def test_the_first_reason_is_kept(server: ServerImage):
    server.put(f"{STATE}/reason", "sshd did not answer")
    undo(server, OLD)
    assert server.read(f"{STATE}/reason") == "sshd did not answer"


def test_without_a_deploy_that_waits_nothing_happens(server: ServerImage):
    server.output("rm", f"{STATE}/pending.json")
    assert undo(server, OLD) == "laterlater still"
    assert files(server) == {"before"}


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("{system}/sw/bin/undo-deployment", (OLD,)),
        (f"{NEW}/etc/deployment/data/headscale", ("restore", f"{STATE}/before", OLD, NEW)),
    ],
    ids=["undo-deployment", "headscale-data"],
)
def test_killed_anywhere_it_begins_again(server: ServerImage, program: str, arguments: tuple[str, ...]):
    """bash ends by itself before the n-th command; what is left must still be enough to restore the database."""
    server.put(f"{NEW}/etc/headscale/version", "0.30.0")
    script = server.output("readlink", "-f", program.format(system=sample_system())).strip()
    pending = server.read(f"{STATE}/pending.json")
    for steps in range(3, 40):
        server.put(DATABASE, "later")
        server.put(f"{DATABASE}-wal", "later still")
        server.put(f"{STATE}/pending.json", pending)
        server.put("/dies.sh", f"n=0; trap '[ $((n += 1)) -lt {steps} ] || kill -KILL $$' DEBUG; set -T; . {script}\n")
        died = server.run("bash", "/dies.sh", *arguments).returncode != 0
        server.output(script, *arguments)
        assert server.output("sh", "-c", f"cat {DATABASE}*") == "before", f"killed before command {steps}"
        if not died:
            return
    raise AssertionError("the program has more commands than were tried")
