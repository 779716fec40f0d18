# systemd-networkd and systemd-resolved are Debian's own; their configuration is what is declared.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  section = mkOption {
    type = types.attrsOf types.systemdOption;
    default = { };
  };
  network.options = {
    matchConfig = section;
    networkConfig = section;
    linkConfig = section;
    dhcpV4Config = section;
    address = mkOption {
      type = types.listOf types.str;
      default = [ ];
    };
    routes = mkOption {
      type = types.listOf (types.attrsOf types.systemdOption);
      default = [ ];
    };
  };
  text =
    n:
    lib.units.section "Match" n.matchConfig
    + lib.units.section "Link" n.linkConfig
    + lib.units.section "Network" (n.networkConfig // { Address = n.address; })
    + lib.units.section "DHCPv4" n.dhcpV4Config
    + lib.concatLines (map (lib.units.section "Route") n.routes);
  files = lib.mapAttrs' (
    name: n: lib.nameValuePair "systemd/network/${name}.network" { text = text n; }
  ) config.systemd.network.networks;
  debian = wantedBy: {
    overrideStrategy = "asDropin";
    inherit wantedBy;
  };
in
{
  options = {
    networking = {
      hostName = mkOption {
        type = types.strMatching "^$|^[[:alnum:]]([[:alnum:]_-]{0,61}[[:alnum:]])?$";
        default = "nixos";
      };
      hosts = mkOption {
        type = types.attrsOf (types.listOf types.str);
        default = { };
      };
      useDHCP = mkOption {
        type = types.bool;
        default = true;
      };
      useNetworkd = mkOption {
        type = types.bool;
        default = false;
      };
    };
    systemd.network.networks = mkOption {
      type = types.attrsOf (types.submodule network);
      default = { };
    };
  };

  config = lib.mkIf config.networking.useNetworkd {
    environment.etc = files // {
      "resolv.conf".source = "/run/systemd/resolve/stub-resolv.conf";
    };
    systemd.services.systemd-networkd = debian [ "multi-user.target" ] // {
      reloadTriggers = lib.mapAttrsToList (name: _: config.environment.etc.${name}.source) files;
    };
    systemd.services.systemd-resolved = debian [ "multi-user.target" ];
    systemd.services.systemd-networkd-wait-online = debian [ "network-online.target" ];
  };
}
