"""Two devices join the server with a pre-auth key and reach each other; the web interface is served to them."""
# ruff: noqa: F821 - the test driver gives a variable for each machine.

import json
import shlex

start_all()
server.wait_for_unit("headscale-api-key.service")
server.wait_for_unit("nginx.service")
server.wait_for_open_port(443)

# Until a certificate is issued, NixOS has one signed by an authority of the machine's own.
authority = server.succeed("cat /var/lib/acme/headscale.example.org/chain.pem")
server.succeed("headscale users create operator")
created = server.succeed("headscale preauthkeys create --user 1 --reusable --output json")
key = json.loads(created)["key"]

for device in (laptop, phone):
    device.succeed(f"printf %s {shlex.quote(authority)} > /etc/authority.pem")
    device.succeed("systemctl restart tailscaled.service")
    device.succeed(f"tailscale up --login-server https://headscale.example.org --auth-key {key}", timeout=120)

address = phone.succeed("tailscale ip -4").strip()
laptop.wait_until_succeeds(f"ping -c 1 -W 2 {address}", timeout=120)
laptop.succeed(
    "curl --fail --silent --cacert /etc/authority.pem https://headscale-ui.example.org/web/ | grep -i '<html'"
)
