"""Each key of a stack is changed by one command and an `up`, while devices ping each other and headscale goes on.

The former key is worth nothing afterwards; until then, wherever it ends, the next `up` has a way in.
"""

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

from rehearsal.operator import keys
from rehearsal.operator.edits import laid_over, open_for_edits
from rehearsal.operator.keys import StackSecrets, public_key
from rehearsal.operator.leaks import files_with
from rehearsal.operator.stack import Outcome
from rehearsal.sandbox.processes import Failed
from rehearsal.sandbox.wait import eventually
from rehearsal.story import DEPLOY, JOIN_TIMEOUT, Story

ON_SERVER = ("boot", "etc", "home", "nix", "opt", "root", "run", "srv", "tmp", "var")
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"
FORMER = {"deploy-key": "formerDeployKey", "host-key": "formerSshHostKey"}
# These log in again: with another key, or expecting another.
COMMANDS = DEPLOY | {
    *("headscale-certificates", "headscale-api-key", "headscale-former-users"),
}
SSH_KEYS = dict.fromkeys(COMMANDS, "update") | {"nixos-keys": "replace"}


class Rotation(Story):
    """Deploy key, host key and age key: as it should go, then with what can go wrong on the way."""

    def tell(self) -> None:
        open_for_edits(self.world.run)
        self.up()
        with self.joined("laptop", "phone") as (self.laptop, self.phone):
            eventually(lambda: self.phone.ping(self.laptop.addresses()[0]), "phone pings laptop", JOIN_TIMEOUT)
            self.one_by_one()
            self.interrupted()
            self.not_confirmed()
        self.world.stack.destroy()
        assert self.world.leftovers() == self.world.unexpected() == []

    def one_by_one(self) -> None:
        server, headscale = self.world.server_id, self.headscale()
        self.rotates("deploy-key", SSH_KEYS | {"server-ssh-key": "replace"})
        self.rotates("host-key", SSH_KEYS)
        # Another SOPS file might hold another API key.
        self.rotates("age-key", dict.fromkeys({*DEPLOY, "headscale-api-key"}, "update"))
        with self.report.step("it is the same server, and the same process of headscale"):
            assert (self.world.server_id, self.headscale()) == (server, headscale)

    def headscale(self) -> str:
        return self.world.host.main_pid("headscale.service")

    def rotates(self, key: str, changes: dict[str, str]) -> None:
        with self.report.step(f"`scripts/rotate {key}`, `pulumi up`: the server takes the new key") as line:
            former = self.rotate(key)
            with self.pinging() as pings:
                outcome = self.world.stack.up()
                self.log_in()
            assert outcome.changed() == changes, outcome.changed()
            line.note = pings()
        self.former_is_worthless(key, former)
        self.clean(key)

    def rotate(self, key: str) -> StackSecrets:
        """The secrets of before."""
        former = self.world.secrets
        self.world.stack.rotate(key)
        self.world.secrets = keys.keys_of(self.world.stack)
        return former

    def former_is_worthless(self, key: str, former: StackSecrets) -> None:
        with self.report.step("  and the former key is refused, and nowhere on the server") as line:
            line.note = {
                "deploy-key": lambda: self.refused(deploy_key=former.deploy_key),
                "host-key": lambda: self.refused(ssh_host_key=former.ssh_host_key),
                "age-key": lambda: self.opens_nothing(former.host_age_key),
            }[key]()
            self.assert_nowhere(changed(former, self.world.secrets))

    def assert_nowhere(self, secrets: dict[str, str]) -> None:
        root = Path(f"/proc/{self.world.machines[self.world.server_id].leader()}/root")
        assert secrets
        leaks = files_with(secrets, [root / name for name in ON_SERVER])
        assert leaks == {}, leaks

    def refused(self, **former: str) -> str:
        try:
            self.log_in(replace(self.world.secrets, **former))
        except Failed as error:
            output = str(error).splitlines()[-1]
            assert "Permission denied (publickey)" in output or "Host key verification failed" in output, error
            return output.rpartition(": ")[2]
        raise AssertionError("the former key was taken")

    def opens_nothing(self, identity: str) -> str:
        age_keys = self.world.host.read("/var/lib/sops-nix/key.txt")
        assert age_keys == self.world.secrets.host_age_key, f"{len(age_keys.splitlines())} identities"
        assert self.world.stack.opens(age_keys)
        assert not self.world.stack.opens(identity), "the former key opens the SOPS file"
        return "the SOPS file is encrypted to another"

    def clean(self, key: str) -> None:
        with self.report.step("  and nothing is to do, with the former key still configured or not") as line:
            self.assert_nothing_to_do()
            if former := FORMER.get(key):
                output = self.world.stack.preview().output
                assert f"`pulumi config rm headscale:{former}` removes" in output, output
                self.world.stack.unset(former)
                self.assert_nothing_to_do()
                line.note = f"headscale:{former}"

    def assert_nothing_to_do(self) -> None:
        before = self.world.host_snapshot()
        for outcome in (self.world.stack.preview("--expect-no-changes"), self.world.stack.up()):
            assert outcome.changed() == {}, outcome.changed()
        assert self.world.host_snapshot() == before

    def interrupted(self) -> None:
        with self.report.step("both SSH keys, and the server has the new host key but not the new deploy key") as line:
            self.rotate("deploy-key")
            self.rotate("host-key")
            self.give_host_key()
            line.note = self.completes(self.world.stack.up)
        with self.report.step(
            "`pulumi up` killed once the server shows the new host key: the next one goes on"
        ) as line:
            for key in ("deploy-key", "host-key", "age-key"):
                self.rotate(key)
            self.killed_when(self.shows_new_host_key)
            line.note = self.completes(self.world.stack.up)

    def give_host_key(self) -> None:
        self.world.host.attempt(["tee", HOST_KEY], text=self.world.secrets.ssh_host_key)
        public = public_key(self.world.secrets.ssh_host_key)
        self.world.host.attempt(["tee", f"{HOST_KEY}.pub"], text=public)
        self.world.host.restart("sshd.service")

    def shows_new_host_key(self) -> bool:
        scan = self.world.host.run("ssh-keyscan", "-t", "ed25519", "127.0.0.1")
        return public_key(self.world.secrets.ssh_host_key) in scan

    def killed_when(self, fact: Callable[[], bool]) -> None:
        with self.up_in_the_background(expect=-9) as ended:
            eventually(fact, "the moment to kill `pulumi up`", 60)
            self.world.stack.kill()
            ended()

    def completes(self, up: Callable[[], Outcome]) -> str:
        headscale = self.headscale()
        with self.pinging() as pings:
            up()
            self.log_in()
        assert self.headscale() == headscale
        for former in FORMER.values():
            self.world.stack.unset(former)
        self.assert_nothing_to_do()
        return pings()

    def not_confirmed(self) -> None:
        former = self.world.secrets
        with self.report.step("all three keys, and a deploy that cannot be confirmed: it is rolled back") as line:
            for key in ("deploy-key", "host-key", "age-key"):
                self.rotate(key)
            with laid_over("no-ssh-port"), self.pinging() as pings:
                assert "not confirmed: no new SSH connection" in self.world.stack.up(expect=1).output
            self.takes_either_deploy_key(former)
            line.note = pings()
        with self.report.step("  and a reboot: the system of before opens its secrets, and has a way in") as line:
            before = self.world.host.boot_id()
            self.world.machines.reboot(self.world.server_id)
            eventually(lambda: self.world.host.boot_id() != before and self.serves(), "headscale after the reboot", 60)
            self.takes_either_deploy_key(former)
        with self.report.step("  and the next `pulumi up` deploys") as line:
            line.note = self.completes(self.world.stack.up)
            self.refused(deploy_key=former.deploy_key)
            self.opens_nothing(former.host_age_key)

    def takes_either_deploy_key(self, former: StackSecrets) -> None:
        self.log_in()
        self.log_in(replace(self.world.secrets, deploy_key=former.deploy_key))

    def serves(self) -> bool:
        return self.get("https://headscale.example.org/health")[0] == 200


def changed(former: StackSecrets, now: StackSecrets) -> dict[str, str]:
    """The secrets that are others now, by name; of a private SSH key, what it has in common with no other."""
    names = [field.name for field in fields(former)]
    differ = {name: getattr(former, name) for name in names if getattr(former, name) != getattr(now, name)}
    return {name: value if "\n" not in value else value.splitlines()[-3] for name, value in differ.items()}
