{ deployment, ... }:
{
  networking.useDHCP = false;
  networking.useNetworkd = true;
  systemd.network.networks."10-wan" = {
    matchConfig.Name = "en* eth*";
    # Hetzner gives IPv4 by DHCP and routes an IPv6 prefix to the server without announcing it.
    networkConfig.DHCP = "ipv4";
    networkConfig.IPv6AcceptRA = false;
    address = [ "${deployment.ipv6}/64" ];
    routes = [ { Gateway = "fe80::1"; } ];
    linkConfig.RequiredForOnline = "routable";
  };

  # There is one gateway, and nothing on the link may announce another.
  boot.kernel.sysctl = {
    "net.ipv4.conf.*.accept_redirects" = false;
    "net.ipv6.conf.*.accept_redirects" = false;
  };

  networking.nftables.enable = true;
  networking.firewall = {
    allowedTCPPorts = [
      80
      443
    ];
    allowedUDPPorts = [ 3478 ];
    # Only Hetzner's firewall restricts SSH. A host that did as well would still admit the former networks of an
    # operator who has moved, and the deploy that admits the new ones could not arrive.
    extraInputRules = ''
      iifname "en*" tcp dport 22 accept
      iifname "eth*" tcp dport 22 accept
    '';
  };

  # The metadata service hands out user_data, and with it the SSH host key.
  networking.nftables.tables.metadata = {
    family = "inet";
    content = ''
      chain output {
        type filter hook output priority filter; policy accept;
        ip daddr 169.254.169.254 meta skuid != 0 drop
      }
    '';
  };
}
