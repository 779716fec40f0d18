# An address that guesses keys, or continues where it is refused, is banned from these ports, each time for twice as long.
{
  config,
  deployment,
  lib,
  ...
}:
let
  inherit (config.services.headscale.settings) prefixes;
  # "0.0.0.0/0" among them would switch every jail off.
  admins = lib.filter (network: !lib.hasSuffix "/0" network) deployment.adminNetworks;
  ipv6Admins = lib.filter (lib.hasInfix ":") admins;
  # Their neighbours in the same network may be banned.
  spared = lib.optionalString (
    ipv6Admins != [ ]
  ) "ip6 saddr != \\{ ${lib.concatStringsSep ", " ipv6Admins} \\} ";
  accessLog = "/var/log/nginx/access.log";
in
{
  services.fail2ban = {
    enable = true;
    ignoreIP = admins ++ [
      prefixes.v4
      prefixes.v6
      deployment.ipv4
      deployment.ipv6
    ];
    banaction = "nftables-networks";
    bantime = "10m";
    bantime-increment.enable = true;
    bantime-increment.maxtime = "1d";
    # A ban outlives a reboot in this database. By default it forgets who was banned after a day.
    daemonSettings.Definition.dbpurgeage = "1w";

    # Each uses the filter of its own name: what the option `filter` says, nixpkgs 26.05 ignores.
    jails = {
      # The default mode does not count a connection that ends when its key is refused, and there are only keys.
      sshd.settings = {
        mode = "ddos";
        maxretry = 5;
      };
      # A page of the UI makes some four requests: ten pages with an old key are still a person.
      headscale-api-key.settings = {
        port = "80,443";
        backend = "polling";
        logpath = accessLog;
        maxretry = 50;
      };
      nginx-path.settings = {
        port = "80,443";
        backend = "polling";
        logpath = accessLog;
        maxretry = 20;
      };
      nginx-limit-people.settings = {
        port = "80,443";
        backend = "polling";
        logpath = accessLog;
        findtime = "1m";
        maxretry = 100;
      };
    };
  };

  environment.etc = {
    "fail2ban/filter.d/headscale-api-key.conf".source = ./fail2ban/headscale-api-key.conf;
    "fail2ban/filter.d/nginx-limit-people.conf".source = ./fail2ban/nginx-limit-people.conf;
    "fail2ban/filter.d/nginx-path.conf".source = ./fail2ban/nginx-path.conf;
    # nginx.nix counts an IPv6 network of 2^64 addresses as one client; a set of fail2ban's own holds single addresses.
    "fail2ban/action.d/nftables-networks.conf".text = ''
      [INCLUDES]
      before = nftables.conf

      [Init]
      addr_type = ipv4_addr\; flags interval

      [Init?family=inet6]
      addr_type = ipv6_addr\; flags interval
      addr_family = ${spared}ip6
    '';
  };
  systemd.services.fail2ban.restartTriggers = [ ./fail2ban ];

  # fail2ban does not start when a log is missing.
  systemd.tmpfiles.rules = [
    "d /var/log/nginx 0750 nginx nginx"
    "f ${accessLog} 0640 nginx nginx"
  ];
}
