"""A program for tests: a server as this project makes them, with the configuration's word in a few places."""

import pulumi
import pulumi_hcloud as hcloud

PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJwmSTUVFf7pXHpdV5v0hSRKNOFGAYTdE3NJlJbJJ6Yr operator"

config = pulumi.Config()
labels = {"stack": "test"}
key = hcloud.SshKey("key", name="test", public_key=PUBLIC_KEY, labels=labels)
rule = hcloud.FirewallRuleArgs(
    direction="in", protocol="tcp", port=config.get("port", "22"), source_ips=["0.0.0.0/0", "::/0"]
)
firewall = hcloud.Firewall("firewall", name="test", labels=labels, rules=[rule])
ipv4, ipv6 = (
    hcloud.PrimaryIp(type, name=f"test-{type}", type=type, location="nbg1", auto_delete=False, labels=labels)
    for type in ("ipv4", "ipv6")
)
server = hcloud.Server(
    "server",
    name="test",
    image="debian-13",
    server_type="cx23",
    location="nbg1",
    user_data=config.get("userData", "#cloud-config"),
    ssh_keys=[key.id],
    firewall_ids=[firewall.id.apply(int)],
    public_nets=[
        hcloud.ServerPublicNetArgs(
            ipv4_enabled=True, ipv4=ipv4.id.apply(int), ipv6_enabled=True, ipv6=ipv6.id.apply(int)
        )
    ],
    labels=labels,
    opts=pulumi.ResourceOptions(delete_before_replace=True),
)
pulumi.export("ipv4", server.ipv4_address)
pulumi.export("ipv6", server.ipv6_address)
pulumi.export("network", ipv6.ip_network)
