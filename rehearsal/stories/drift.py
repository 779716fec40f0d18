"""The host is changed behind the program in one way after another: previews name each, `pulumi up` repairs it."""

import json
import re
import subprocess
from collections.abc import Mapping

from rehearsal.operator.keys import public_key
from rehearsal.sandbox.processes import check
from rehearsal.sandbox.wait import eventually
from rehearsal.stories.main import assert_untouched
from rehearsal.story import HEADSCALE, JOIN_TIMEOUT, Story

GENERATIONS = "/nix/var/nix/profiles/system"
CERTIFICATE, LEGO = f"/var/lib/acme/{HEADSCALE}/cert.pem", f"/var/lib/acme/.lego/{HEADSCALE}/certificates"
ENDED = "-keyout /dev/null -subj /CN=x -not_before 20200101000000Z -not_after 20200201000000Z"
# Users, addresses, networks.
PRIVATE = re.compile(r"admin\b|\d+\.\d+\.\d+\.\d+|[0-9a-f]+::")
# By the command on the server: what the next preview says of it.
OF_HEADSCALE = {
    """echo '{"acls": []}' >/tmp/p && mv -T /tmp/p /etc/headscale/policy.hujson && systemctl reload headscale""": (
        "/etc/headscale/policy.hujson is not the policy that was deployed"
    ),
    "headscale apikeys list --output json | jq -r .[0].prefix | xargs headscale apikeys expire --prefix": (
        "headscale does not accept the API key of the SOPS file"
    ),
    f"rm {LEGO}/*.crt && openssl req -x509 -newkey ed25519 -nodes {ENDED} -out {CERTIFICATE}": (
        f"the certificate for {HEADSCALE} has ended"
    ),
}
OF_THE_HOST = {
    "echo '# mine' >>/etc/nixos/ssh.nix": "/etc/nixos is not what was deployed: ssh.nix changed",
    "rm /etc/nixos/nix.nix": "/etc/nixos is not what was deployed: nix.nix ssh.nix changed",
    "touch /etc/nixos/mine.nix": "/etc/nixos is not what was deployed: mine.nix nix.nix ssh.nix changed",
    "systemctl stop headscale.service": "headscale.service is dead",
    "systemctl stop nginx.service": "nginx.service is dead",
    "systemctl stop fail2ban.service": "fail2ban.service is dead",
    "systemctl stop nftables.service": "nftables.service is dead",
    "chmod 0644 /run/secrets/headscale_api_key": (
        "/run/secrets/headscale_api_key belongs to root, mode 0644, not to root, mode 0400"
    ),
    "chown root /run/secrets/headscale_noise_private_key": (
        "/run/secrets/headscale_noise_private_key belongs to root, mode 0400, not to headscale, mode 0400"
    ),
    f"nix-env -p {GENERATIONS} --rollback": "the server would boot another system than the deployed one",
    "systemd-run --quiet --wait --unit mine false || true": "mine.service has failed",
}
# The system that it became first, which has none of these services.
ANOTHER_SYSTEM = {
    f"{GENERATIONS}-1-link/bin/switch-to-configuration test": "the server runs another system than the deployed one",
}


class Drift(Story):
    def tell(self) -> None:
        self.up()
        self.world.stack.set("extraRecords", "grafana.ts.example.org 100.64.0.9", as_list=True)
        self.world.stack.up()
        with self.report.step("untouched, the preview is clean, and announces no step"):
            outcome = self.world.stack.preview("--expect-no-changes")
            assert_untouched(outcome)
            assert "(seconds)" not in outcome.output, outcome.output
        with self.joined("laptop", "phone") as (self.laptop, self.phone):
            self.reaches(True)
            self.named(OF_HEADSCALE)
            self.reaches(False)
            self.repaired()
            with self.report.step("the policy that headscale had read is the deployed one again"):
                self.reaches(True)
        self.named(OF_THE_HOST)
        self.not_asked()
        self.facts_key()
        with self.report.step("`scripts/nightly` tells it in words that anybody may read"):
            self.published(OF_THE_HOST)
        self.named(ANOTHER_SYSTEM)
        self.repaired()

    def published(self, mutations: Mapping[str, str]) -> None:
        output = self.world.stack.nightly(expect=7)
        assert "- update `nixos-deploy`: " in output, output
        for words in mutations.values():
            assert f"- {words.partition(':')[0]}\n" in output, output
        assert not PRIVATE.search(output), output

    def named(self, mutations: Mapping[str, str]) -> None:
        for command, words in mutations.items():
            with self.report.step(f"`{command}`") as line:
                self.world.host.run("sh", "-c", command)
                output = self.world.stack.preview("--expect-no-changes", expect=7).output
                assert f"{words}; the next `pulumi up` repairs it" in output, output
                line.note = words

    def repaired(self) -> None:
        with self.report.step("one `pulumi up` repairs all of it, and the preview is clean"):
            self.world.stack.up()
            assert_untouched(self.world.stack.preview("--expect-no-changes"))

    def not_asked(self) -> None:
        with self.report.step("with `hostFacts` false, the host is not asked, and that is not drift") as line:
            self.world.stack.set("hostFacts", "false")
            outcome = self.world.stack.preview("--expect-no-changes")
            assert_untouched(outcome)
            (line.note,) = set(re.findall("host not asked.*", outcome.output))
        with self.report.step("  and `pulumi up`, which has to ask it, is refused"):
            assert "hostFacts" in self.world.stack.up(expect=1).output
            self.world.stack.unset("hostFacts")

    def facts_key(self) -> None:
        login, address = self.world.run.directory("facts"), self.outputs["serverIpv4"]
        key, host_key, known_hosts = (login / name for name in ("key", "host-key", "known-hosts"))
        key.touch(mode=0o600)
        key.write_text(self.world.secrets.facts_key)
        host_key.write_text(public_key(self.world.secrets.ssh_host_key))
        known_hosts.write_text(f"{address} {host_key.read_text()}\n")
        with self.report.step("`scripts/host-facts` names the drift with the facts key alone, and exits 7"):
            process = self.world.stack.host_facts(address, "--key", str(key), "--host-key", str(host_key))
            assert process.returncode == 7 and "mine.service has failed" in process.stdout, process
        with self.report.step("  and that key does nothing else"):
            options = ("-F", "none", "-i", str(key), "-o", f"UserKnownHostsFile={known_hosts}")
            facts = json.loads(check(["ssh", *options, f"root@{address}", "cat", "/etc/shadow"]))
            assert facts["drift"]
            tunnel = ["ssh", *options, "-W", "127.0.0.1:8085", f"root@{address}"]
            forwarded = subprocess.run(tunnel, stdin=subprocess.DEVNULL, capture_output=True, text=True)
            assert "prohibited" in forwarded.stderr, forwarded

    def reaches(self, expected: bool) -> None:
        address = self.laptop.addresses()[0]

        def answers() -> bool:
            return self.phone.run(["ping", "-n", "-c", "1", "-W", "1", address]).returncode == 0

        eventually(lambda: answers() == expected, f"ping by the policy: {expected}", JOIN_TIMEOUT)
