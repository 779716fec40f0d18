"""The host is changed behind the program in one way after another: previews name each, `pulumi up` repairs it."""

from collections.abc import Mapping

from rehearsal.sandbox.wait import eventually
from rehearsal.stories.main import assert_untouched
from rehearsal.story import HEADSCALE, JOIN_TIMEOUT, Story

CERTIFICATE, LEGO = f"/var/lib/acme/{HEADSCALE}/cert.pem", f"/var/lib/acme/.lego/{HEADSCALE}/certificates"
ENDED = "-keyout /dev/null -subj /CN=x -not_before 20200101000000Z -not_after 20200201000000Z"
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
    "chmod 0644 /run/secrets/headscale_api_key": "/run/secrets/headscale_api_key has mode 644, not 400",
    "nix-env -p /nix/var/nix/profiles/system --rollback": "the server would boot another system than the deployed one",
    "systemd-run --quiet --wait --unit mine false || true": "mine.service has failed",
}


class Drift(Story):
    def tell(self) -> None:
        self.up()
        self.world.stack.set("extraRecords", "grafana.ts.example.org 100.64.0.9", as_list=True)
        self.world.stack.up()
        with self.report.step("untouched, the preview is clean"):
            assert_untouched(self.world.stack.preview("--expect-no-changes"))
        with self.joined("laptop", "phone") as (self.laptop, self.phone):
            self.reaches(True)
            self.named(OF_HEADSCALE)
            self.reaches(False)
            self.repaired()
            with self.report.step("the policy that headscale had read is the deployed one again"):
                self.reaches(True)
        self.named(OF_THE_HOST)
        self.repaired()

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

    def reaches(self, expected: bool) -> None:
        address = self.laptop.addresses()[0]

        def answers() -> bool:
            return self.phone.run(["ping", "-n", "-c", "1", "-W", "1", address]).returncode == 0

        eventually(lambda: answers() == expected, f"ping by the policy: {expected}", JOIN_TIMEOUT)
