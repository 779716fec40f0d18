# What systemd-sysctl can set in a container: the network's own settings.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  said = value: if builtins.isBool value then (if value then "1" else "0") else toString value;
  set = lib.filterAttrs (_: value: value != null) config.boot.kernel.sysctl;
in
{
  options.boot.kernel.sysctl = mkOption {
    type = types.submodule {
      freeformType = types.attrsOf (
        types.nullOr (
          types.oneOf [
            types.bool
            types.int
            types.str
          ]
        )
      );
    };
    default = { };
  };
  config = {
    environment.etc."sysctl.d/60-nixos.conf".text = lib.concatMapAttrsLines (
      name: value: "${name}=${said value}"
    ) set;
    systemd.services.systemd-sysctl = {
      overrideStrategy = "asDropin";
      wantedBy = [ "multi-user.target" ];
      restartTriggers = [ config.environment.etc."sysctl.d/60-nixos.conf".source ];
    };
  };
}
