"""Your own Tailscale control server: config -> server -> dns -> nixos -> headscale -> outputs."""

import pulumi

from components import DnsRecords, HeadscaleBootstrap, NixosDeployment, Server, ending
from config import StackConfig

ending.without_traceback()
config = StackConfig.load()

server = Server(
    "server",
    Server.Args(
        name=config.server_name,
        server_type=config.server_type,
        location=config.location,
        admin_networks=config.admin_networks,
        admin_networks_exclude_me=config.admin_networks_exclude_me,
        protect=config.protect,
        host_facts=config.host_facts,
        ssh_keys=config.ssh_keys,
    ),
)
dns = DnsRecords("dns", DnsRecords.Args(config.zone, config.names, server.ipv4, server.ipv6))
nixos = NixosDeployment(
    "nixos",
    NixosDeployment.Args(
        server=server,
        deployment=config.deployment(server.ipv4, server.ipv6, dns.names),
        names=config.names,
        policy_file=config.policy_file,
        secrets_file=config.secrets_file,
        host_age_key=config.host_age_key,
    ),
)
headscale = HeadscaleBootstrap(
    "headscale",
    HeadscaleBootstrap.Args(
        server_id=server.server_id,
        connection=server.connection,
        deployed=nixos,
        names=config.names,
        secrets_file=config.secrets_file,
        users=config.users,
        preauth_key=config.preauth_key,
    ),
)

pulumi.export("headscaleUrl", config.headscale_url)
pulumi.export("uiUrl", config.ui_url)
pulumi.export("serverIpv4", server.ipv4)
pulumi.export("serverIpv6", server.ipv6)
pulumi.export("generation", nixos.generation)
pulumi.export("users", config.users)
pulumi.export("preauthKey", headscale.preauth_key)
pulumi.export("preauthKeys", headscale.preauth_keys)
pulumi.export("preauthKeyExpiresAt", headscale.preauth_key_expires_at)
pulumi.export("preauthKeysExpireAt", headscale.preauth_keys_expire_at)
pulumi.export("apiKey", headscale.api_key)
pulumi.export("joinCommand", headscale.join_command)
