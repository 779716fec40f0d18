"""The life of keys and users: pre-auth keys lost, spent, renewed; users renamed; the API key and its rotation; a
server that is built again from nothing."""

import json
import re
import secrets
from datetime import UTC, datetime
from typing import Any

from rehearsal.operator.stack import Outcome
from rehearsal.people.devices import Device
from rehearsal.sandbox.processes import Failed
from rehearsal.sandbox.wait import eventually
from rehearsal.stories.main import assert_untouched
from rehearsal.story import DEPLOY, HEADSCALE, JOIN_TIMEOUT, UI, Story

ALICE, BOB, ROBERT = (f"headscale-{user}-preauth-key" for user in ("alice", "bob", "robert"))
RENAMED = {ALICE: "replace", BOB: "delete", ROBERT: "create", "headscale-former-users": "update"}
LOST = {"alice": "revoked", "bob": "deleted"}
SECRET_FILES = {
    "/run/secrets/headscale_api_key": "root 400",
    "/run/secrets/headscale_noise_private_key": "headscale 400",
}
API = "http://127.0.0.1:8085/api/v1/node"
BEARER = "{ printf 'Authorization: Bearer '; cat /run/secrets/headscale_api_key; }"
POLICY = """{
  // The cameras belong to nobody.
  "tagOwners": { "tag:camera": [] },
  "acls": [{ "action": "accept", "src": ["*"], "dst": ["*:*"] }],
}
"""


class Keys(Story):
    """Two users, four devices, and everything that happens to their keys in a year."""

    def tell(self) -> None:
        self.world.stack.set("users", "alice", "bob", as_list=True)
        self.up()
        self.secrets_on_the_server()
        self.lost_user()
        with (
            self.world.device("laptop") as laptop,
            self.world.device("phone") as phone,
            self.world.device("tablet") as tablet,
            self.world.device("camera") as camera,
        ):
            self.two_users(laptop, phone)
            self.lost_keys()
            self.no_word()
            self.no_way_in()
            self.another_serial(tablet)
            self.spent_keys(camera)
            self.renamed_user(laptop, phone)
            self.lost_database()
            self.rebuilt(laptop)
        self.noise_key()

    def secrets_on_the_server(self) -> None:
        with self.report.step("the secrets lie below /run/secrets, each for its reader alone") as line:
            for path, expected in SECRET_FILES.items():
                assert self.world.host.run("stat", "-L", "-c", "%U %a", path) == expected, path
            line.note = ", ".join(SECRET_FILES.values())
        with self.report.step("the state on the operator's disk holds none of the keys in clear") as line:
            line.note = f"{self.world.look_for_secrets(self.outputs)} secrets looked for"
        with self.report.step("the API takes the key of the SOPS file, on the server and from outside"):
            self.api_takes_the_key()

    def api_takes_the_key(self) -> None:
        ask = f"{BEARER} | curl -sS -o /dev/null -w '%{{http_code}}' -H @- {API}"
        assert self.world.host.run("sh", "-c", ask) == "200"
        assert self.api_is_open()

    def api_is_open(self) -> bool:
        return self.get(f"https://{UI}/api/v1/node", self.outputs["apiKey"])[0] == 200

    def two_users(self, laptop: Device, phone: Device) -> None:
        with self.report.step("each user has a key of its own, with its end; a device joins as its key's user") as line:
            assert set(self.outputs["preauthKeys"]) == {"alice", "bob"}
            self.join(laptop, "alice")
            self.join(phone, "bob")
            assert self.owners() == {"laptop": "alice", "phone": "bob"}
            ends = self.outputs["preauthKeysExpireAt"]
            hours = {
                user: (datetime.fromisoformat(end) - datetime.now(UTC)).total_seconds() / 3600
                for user, end in ends.items()
            }
            assert all(23.9 < left <= 24 for left in hours.values()), ends
            line.note = ", ".join(f"{user} until {end}" for user, end in ends.items())

    def lost_keys(self) -> None:
        with self.report.step("a key revoked, another deleted on the server: the preview shows both, and why") as line:
            self.world.headscale.expire_key(self.recorded("alice"))
            self.world.headscale.delete_key(self.recorded("bob"))
            outcome = self.world.stack.preview("--diff")
            assert outcome.changed() == {ALICE: "replace", BOB: "replace"}, outcome.changed()
            reasons = [f"key {self.recorded(user)} was {how} on the server" for user, how in LOST.items()]
            assert all(reason in outcome.output for reason in reasons), outcome.output
            line.note = ", ".join(reasons)
        with self.report.step("`pulumi up` makes two new ones, and the next preview is clean"):
            former = self.outputs["preauthKeys"]
            self.renews(ALICE, BOB)
            assert not set(former.values()) & set(self.outputs["preauthKeys"].values())
            assert_untouched(self.world.stack.preview("--expect-no-changes"))

    def lost_user(self) -> None:
        with self.report.step("a user without nodes deleted on the server: named, and made again") as line:
            self.world.headscale.delete_user("bob")
            output = self.world.stack.preview().output
            (line.note,) = set(re.findall("the user bob and its pre-auth key were deleted on the server", output))
            self.renews(BOB)
            assert_untouched(self.world.stack.preview("--expect-no-changes"))

    def no_word(self) -> None:
        with self.report.step("while headscale does not answer, keys are unknown: a warning, and no new ones"):
            self.world.host.stop("headscale")
            outcome = self.world.stack.preview()
            self.world.host.start("headscale", "headscale-api-key")
            assert not {ALICE, BOB} & set(outcome.changed()), outcome.changed()
            assert "headscale does not answer on the server" in outcome.output, outcome.output

    def no_way_in(self) -> None:
        with self.report.step("a server that answers SSH only after its facts were to be read: no new keys either"):
            self.world.host.run("systemd-run", "--quiet", "--on-active=30", "systemctl", "start", "sshd")
            self.world.host.stop("sshd")
            planned = self.world.stack.preview().changed()
            assert planned == dict.fromkeys(DEPLOY, "update"), planned
            outcome = self.world.stack.up()
            assert "could not be asked over SSH" in outcome.output, outcome.output
            assert outcome.changed() == dict.fromkeys(DEPLOY, "update"), outcome.changed()
            assert self.world.stack.outputs()["preauthKeys"] == self.outputs["preauthKeys"]

    def another_serial(self, tablet: Device) -> None:
        with self.report.step("a new preauthKeySerial makes new keys; the old one is refused on a device") as line:
            former = self.outputs["preauthKeys"]["alice"]
            self.world.stack.set("preauthKeySerial", "2")
            self.renews(ALICE, BOB)
            line.note = self.refused(tablet, former)
            self.join(tablet, "alice")

    def spent_keys(self, camera: Device) -> None:
        with self.report.step("keys for one device, ephemeral and tagged, valid for a minute") as line:
            self.wants(reusable="false", ephemeral="true", expiration="1m", tags=["tag:camera"])
            self.join(camera, "alice")
            node = self.nodes()["camera"]
            assert (node["tags"], node["pre_auth_key"]["ephemeral"]) == (["tag:camera"], True), node
            line.note = f"camera is {', '.join(node['tags'])}"
        with self.report.step("a key that is used up is a warning with the command for a new one, and no change"):
            self.warns("the pre-auth key of alice is used up: `pulumi config set preauthKeySerial")
        self.another_api_key()
        with self.report.step("a key that has expired by its time, too") as line:
            end = self.outputs["preauthKeysExpireAt"]["bob"]
            eventually(lambda: self.world.host.run("date", "-u", "+%FT%TZ") > end, f"{end} on the server", 70)
            self.warns("the pre-auth key of bob is expired: `pulumi config set preauthKeySerial")
            line.note = end

    def wants(self, reusable: str, ephemeral: str, expiration: str, tags: list[str]) -> Outcome:
        policy = self.world.run.path / "policy.hujson"
        policy.write_text(POLICY)
        self.world.stack.set("policyFile", str(policy))
        self.world.stack.set("preauthKeyReusable", reusable)
        self.world.stack.set("preauthKeyEphemeral", ephemeral)
        self.world.stack.set("preauthKeyExpiration", expiration)
        self.world.stack.set("preauthKeyTags", *tags, as_list=True)
        outcome = self.world.stack.up()
        self.outputs = self.world.stack.outputs()
        return outcome

    def warns(self, words: str) -> None:
        outcome = self.world.stack.preview("--expect-no-changes")
        assert words in outcome.output, outcome.output

    def renews(self, *keys: str) -> None:
        outcome = self.world.stack.up()
        assert outcome.changed() == dict.fromkeys(keys, "replace"), outcome.changed()
        self.outputs = self.world.stack.outputs()

    def renamed_user(self, laptop: Device, phone: Device) -> None:
        self.world.stack.set("users", "alice", "robert", as_list=True)
        with self.report.step("a user renamed in the list: the preview says what happens to the former one") as line:
            result = self.world.stack.preview()
            words = "headscale:users no longer names bob: `pulumi up` expires its pre-auth key"
            assert words in result.output, result.output
            assert "the user stays, with its nodes (1)" in result.output, result.output
            line.note = "bob stays, with its node"
        with self.report.step("`pulumi up` makes the new one; node and user stay, and its key is refused") as line:
            former = self.outputs["preauthKeys"]["bob"]
            outcome = self.wants(reusable="true", ephemeral="false", expiration="24h", tags=[])
            assert outcome.changed() == RENAMED, outcome.changed()
            assert set(self.outputs["preauthKeys"]) == {"alice", "robert"}
            assert self.owners()["phone"] == "bob"
            eventually(lambda: phone.ping(laptop.addresses()[0]), "phone pings laptop", JOIN_TIMEOUT)
            with self.world.device("stranger") as stranger:
                line.note = self.refused(stranger, former)
        with self.report.step("after it the preview is clean, and speaks of bob no more"):
            assert "bob" not in self.world.stack.preview("--expect-no-changes").output

    def another_api_key(self) -> None:
        with self.report.step(
            "another API key in the SOPS file: `pulumi up` restarts the unit that registers it"
        ) as line:
            former = self.outputs["apiKey"]
            key = f"hskey-api-{secrets.token_urlsafe(9)}-{secrets.token_urlsafe(48)}"
            line.note = self.edited_secret("headscale_api_key", key)
            assert line.note == "headscale-api-key.service", line.note
        with self.report.step("the new key works, the old one is refused"):
            assert self.outputs["apiKey"] == key
            self.api_takes_the_key()
            assert self.get(f"https://{UI}/api/v1/node", former)[0] == 401

    def edited_secret(self, name: str, value: str) -> str:
        """The services that have changed their state when `pulumi up` has brought a new value."""
        self.world.edit_secret(name, value)
        before = self.world.unit_changes()
        outcome = self.world.stack.up()
        after = self.world.unit_changes()
        assert outcome.changed() == dict.fromkeys({*DEPLOY, "headscale-api-key"}, "update"), outcome.changed()
        self.outputs = self.world.stack.outputs()
        return ", ".join(sorted(unit for unit in before if before[unit] != after.get(unit)))

    def lost_database(self) -> None:
        with self.report.step("a headscale that lost its database is given the API key again, and says so") as line:
            stopped = "systemctl stop headscale && rm /var/lib/headscale/db.sqlite*"
            self.world.host.run("sh", "-c", f"{stopped} && systemctl start headscale")
            eventually(self.api_is_open, "the API to take the key", 30)
            journal = self.world.host.journal("headscale-api-key")
            (line.note,) = re.findall(r".*it has another database", journal)

    def rebuilt(self, laptop: Device) -> None:
        identity = self.identity()
        with self.report.step("`pulumi destroy` needs no host: the server is off"):
            self.world.machines.power_off(self.world.server_id)
            self.world.stack.destroy()
            assert self.world.leftovers() == []
        with self.report.step("built again from nothing: the same API key works, headscale is who it was"):
            self.world.stack.up()
            self.outputs = self.world.stack.outputs()
            self.api_takes_the_key()
            assert self.identity() == identity
        with self.report.step("its database is new: devices join again") as line:
            assert self.nodes() == {}
            self.join(laptop, "alice", "--force-reauth")
            line.note = ", ".join(laptop.addresses())

    def noise_key(self) -> None:
        path = "/run/secrets/headscale_noise_private_key"
        with self.report.step("headscale does not start without its noise key") as line:
            self.world.host.run("mv", path, f"{path}.away")
            self.world.host.run("sh", "-c", "! systemctl restart headscale")
            state = self.world.host.run("sh", "-c", "systemctl is-active headscale || true")
            self.world.host.run("mv", f"{path}.away", path)
            self.world.host.start("headscale", "headscale-api-key")
            assert state == "inactive", state
            line.note = "assertion failed"
        with self.report.step(
            "another noise key restarts headscale and nothing else: it is another server then"
        ) as line:
            identity = self.identity()
            line.note = self.edited_secret("headscale_noise_private_key", f"privkey:{secrets.token_hex(32)}")
            assert line.note == "headscale-api-key.service, headscale.service", line.note
            assert self.identity() != identity

    def identity(self) -> str:
        """headscale's public noise key, once it serves."""
        return eventually(
            lambda: str(json.loads(self.get(f"https://{HEADSCALE}/key?v=130")[1])["publicKey"]), "its key", 30
        )

    def join(self, device: Device, user: str, *flags: str) -> None:
        device.join(" ".join([join_command(self.outputs["preauthKeys"][user]), *flags]))

    def refused(self, device: Device, key: str) -> str:
        """The message to the device's owner when the key does not join it."""
        try:
            device.join(join_command(key))
        except Failed as failure:
            words = str(failure).partition("backend error: ")[2].partition(" (see")[0]
            assert "expired" in words, failure
            return words
        raise AssertionError(f"{device.name} joined with a key that should be refused")

    def nodes(self) -> dict[str, dict[str, Any]]:
        listed = self.world.headscale.nodes()
        return {node["name"]: node for node in listed}

    def owners(self) -> dict[str, str]:
        return {name: node["user"]["name"] for name, node in self.nodes().items()}

    def recorded(self, user: str) -> str:
        """The id of the key that the server has on record for a user."""
        return str(json.loads(self.world.host.read(f"/var/lib/headscale-bootstrap/{user}"))["key"])


def join_command(key: str) -> str:
    return f"tailscale up --login-server https://{HEADSCALE} --auth-key {key}"
