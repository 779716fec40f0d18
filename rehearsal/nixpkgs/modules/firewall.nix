# One nftables table of the firewall's own, and the tables that are declared.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  firewall = config.networking.firewall;
  tables = lib.filterAttrs (_: t: t.enable) config.networking.nftables.tables;
  ports = mkOption {
    type = types.listOf types.port;
    default = [ ];
  };
  yes = mkOption {
    type = types.bool;
    default = true;
  };
  table =
    { name, ... }:
    {
      options = {
        enable = yes;
        name = mkOption {
          type = types.str;
          default = name;
        };
        family = mkOption {
          type = types.enum [
            "ip"
            "ip6"
            "inet"
            "arp"
            "bridge"
            "netdev"
          ];
        };
        content = mkOption { type = types.lines; };
      };
    };
  accept =
    protocol: numbers:
    lib.optionalString (
      numbers != [ ]
    ) "${protocol} dport { ${lib.concatMapStringsSep ", " toString (lib.unique numbers)} } accept";
  # Replaced as a whole each time, and nothing else is: tables of others (fail2ban's) stay.
  fresh = t: ''
    table ${t.family} ${t.name}
    delete table ${t.family} ${t.name}
    table ${t.family} ${t.name} {
    ${t.content}}
  '';
  ruleset = pkgs.writeText "nftables.conf" (lib.concatLines (lib.mapAttrsToList (_: fresh) tables));
in
{
  options.networking = {
    nftables.enable = mkOption {
      type = types.bool;
      default = false;
    };
    nftables.tables = mkOption {
      type = types.attrsOf (types.submodule table);
      default = { };
    };
    firewall = {
      enable = yes;
      allowPing = yes;
      allowedTCPPorts = ports;
      allowedUDPPorts = ports;
      extraInputRules = mkOption {
        type = types.lines;
        default = "";
      };
    };
  };

  config = lib.mkIf config.networking.nftables.enable {
    networking.nftables.tables.nixos-fw = lib.mkIf firewall.enable {
      family = "inet";
      content = ''
        chain input {
          type filter hook input priority filter; policy drop;
          iifname "lo" accept
          ct state { established, related } accept
          ct state invalid drop
          ${accept "tcp" firewall.allowedTCPPorts}
          ${accept "udp" firewall.allowedUDPPorts}
          ${lib.optionalString firewall.allowPing "icmp type echo-request accept"}
          icmpv6 type != { nd-redirect, 139 } accept
          ip6 daddr fe80::/64 udp dport 546 accept
          ${firewall.extraInputRules}
        }
      '';
    };
    systemd.services.nftables = {
      description = "nftables firewall";
      wantedBy = [ "sysinit.target" ];
      before = [ "network-pre.target" ];
      wants = [ "network-pre.target" ];
      unitConfig.DefaultDependencies = false;
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        ExecStart = "${lib.getExe pkgs.nftables} -f ${ruleset}";
        ExecReload = "${lib.getExe pkgs.nftables} -f ${ruleset}";
      };
      reloadIfChanged = true;
    };
  };
}
