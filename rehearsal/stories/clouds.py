"""The clouds are changed behind the program one way after another: previews name each, `pulumi up` repairs it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from rehearsal.sandbox.wait import eventually
from rehearsal.stories.main import assert_untouched
from rehearsal.story import HEADSCALE, JOIN_TIMEOUT, Story

SERVER, FIREWALL, SSH_KEY = "server-server", "server-firewall", "server-ssh-key"
SERVER_NAME = "rehearsal-headscale"
RECORD = f"dns-{HEADSCALE}"
MAIL = {"direction": "in", "protocol": "tcp", "port": "25", "source_ips": ["0.0.0.0/0"], "destination_ips": []}


class Clouds(Story):
    def tell(self) -> None:
        self.up()
        self.named(
            {
                "the server has another name": (self.rename, SERVER, "name"),
                "the server has another label": (self.label, SERVER, "labels"),
                "the firewall has another rule": (self.add_rule, FIREWALL, "rules"),
                "a record has another address": (self.record(content="192.0.2.7"), f"{RECORD}-a", "content"),
                "a record lives longer": (self.record(ttl=300), f"{RECORD}-a", "ttl"),
                "a record is proxied": (self.record(proxied=True), f"{RECORD}-a", "proxied"),
            }
        )
        self.named(
            {
                "the firewall is detached": (self.detach, SERVER, "firewallIds"),
                "the firewall lacks a rule": (self.remove_rule, FIREWALL, "rules"),
                "a record is deleted": (self.delete_record, f"{RECORD}-aaaa", ""),
                "the SSH key is deleted": (self.delete_ssh_key, SSH_KEY, ""),
            }
        )
        self.named({"the firewall is deleted": (self.delete_firewall, FIREWALL, "")})
        self.unassigned()
        with self.report.step("backups that are switched on at Hetzner are kept, and are not drift"):
            self.hetzner("POST", f"servers/{self.world.server_id}/actions/enable_backup")
            assert_untouched(self.world.stack.preview("--expect-no-changes"))
            self.world.stack.up()
            assert self.hetzner("GET", f"servers/{self.world.server_id}")["server"]["backup_window"]

    def unassigned(self) -> None:
        with self.report.step("the primary IPv4 address is unassigned: the preview says so, with the commands") as line:
            (address,) = (ip for ip in self.hetzner("GET", "primary_ips")["primary_ips"] if ip["type"] == "ipv4")
            self.world.switch_server(on=False)
            self.hetzner("POST", f"primary_ips/{address['id']}/actions/unassign")
            self.world.switch_server(on=True)
            begin = time.monotonic()
            output = self.world.stack.preview(expect=1).output
            command = f"hcloud primary-ip assign {address['name']} --server {SERVER_NAME}"
            assert "has no ipv4 address at Hetzner, whose primary IP somebody has unassigned" in output, output
            assert command in output, output
            line.note = f"in {time.monotonic() - begin:.0f} s"
        with self.report.step("  and with these done, the preview is clean"):
            self.world.switch_server(on=False)
            assignee = {"assignee_id": self.world.server_id, "assignee_type": "server"}
            self.hetzner("POST", f"primary_ips/{address['id']}/actions/assign", **assignee)
            self.world.switch_server(on=True)
            eventually(self.is_clean, "the server to answer", JOIN_TIMEOUT)

    def is_clean(self) -> bool:
        return not self.world.stack.preview().changed()

    def named(self, mutations: Mapping[str, tuple[Callable[[], object], str, str]]) -> None:
        """Each of these is made, and is named by the resource and the property; without one, the resource is gone."""
        for what, (mutate, resource, field) in mutations.items():
            with self.report.step(f"{what}: the next preview names it, and exits 7") as line:
                mutate()
                outcome = self.world.stack.preview("--expect-no-changes", expect=7)
                (planned,) = (text for text in outcome.output.splitlines() if self.plans(text, resource, field))
                line.note = " ".join(planned.split())
        with self.report.step("  one `pulumi up` repairs it, and the preview is clean") as line:
            line.note = f"{len(self.world.stack.up().changed())} resources changed"
            assert_untouched(self.world.stack.preview("--expect-no-changes"))

    def plans(self, line: str, resource: str, field: str) -> bool:
        """True where a line of a preview plans to repair this property, or to create the resource."""
        plan = [resource, "update" if field else "create"]
        return line.split()[2:4] == plan and field in line

    def hetzner(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        answer = self.world.ask_hetzner(method, path, body)
        assert "error" not in answer, answer
        return answer

    def firewall(self) -> dict[str, Any]:
        (firewall,) = self.hetzner("GET", "firewalls")["firewalls"]
        return dict(firewall)

    def rename(self) -> None:
        self.hetzner("PUT", f"servers/{self.world.server_id}", name="mine")

    def label(self) -> None:
        self.hetzner("PUT", f"servers/{self.world.server_id}", labels={"team": "mine"})

    def add_rule(self) -> None:
        self.set_rules([*self.firewall()["rules"], MAIL])

    def remove_rule(self) -> None:
        self.set_rules([rule for rule in self.firewall()["rules"] if rule["port"] != "443"])

    def set_rules(self, rules: list[dict[str, Any]]) -> None:
        self.hetzner("POST", f"firewalls/{self.firewall()['id']}/actions/set_rules", rules=rules)

    def detach(self) -> None:
        server = [{"type": "server", "server": {"id": self.world.server_id}}]
        self.hetzner("POST", f"firewalls/{self.firewall()['id']}/actions/remove_from_resources", remove_from=server)

    def delete_firewall(self) -> None:
        self.detach()
        self.hetzner("DELETE", f"firewalls/{self.firewall()['id']}")

    def delete_ssh_key(self) -> None:
        (key,) = self.hetzner("GET", "ssh_keys")["ssh_keys"]
        self.hetzner("DELETE", f"ssh_keys/{key['id']}")

    def record(self, **fields: Any) -> Callable[[], None]:
        """A change of headscale's A record, as a person makes it in the dashboard."""

        def change() -> None:
            records = self.world.cloudflare.records
            (record,) = (each for each in records.values() if (each.name, each.type) == (HEADSCALE, "A"))
            records[record.id] = replace(record, **fields)

        return change

    def delete_record(self) -> None:
        records = self.world.cloudflare.records.values()
        (record,) = (each for each in records if (each.name, each.type) == (HEADSCALE, "AAAA"))
        self.world.cloudflare.remove(record.id)
