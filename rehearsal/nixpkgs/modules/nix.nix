{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  gc = config.nix.gc;
  text = value: if builtins.isBool value then lib.boolToString value else toString value;
in
{
  options.nix = {
    channel.enable = mkOption {
      type = types.bool;
      default = true;
    };
    settings = mkOption {
      type = types.submodule {
        options.auto-optimise-store = mkOption {
          type = types.bool;
          default = false;
        };
        freeformType = types.attrsOf types.data;
      };
      default = { };
    };
  };
  options.nix.package = mkOption {
    type = types.package;
    default = pkgs.nix;
  };
  options.nix.gc = {
    automatic = mkOption {
      type = types.bool;
      default = false;
    };
    dates = mkOption {
      type = types.either types.singleLineStr (types.listOf types.str);
      default = [ "03:15" ];
    };
    options = mkOption {
      type = types.singleLineStr;
      default = "";
    };
  };

  config = {
    environment.etc."nix/nix.conf".text = lib.concatMapAttrsLines (
      name: value: "${name} = ${text value}"
    ) config.nix.settings;
    systemd.services.nix-gc = {
      description = "Nix Garbage Collector";
      script = "exec ${config.nix.package}/bin/nix-collect-garbage ${gc.options}";
      serviceConfig.Type = "oneshot";
    };
    systemd.timers.nix-gc = lib.mkIf gc.automatic {
      description = "Nix Garbage Collector";
      wantedBy = [ "timers.target" ];
      timerConfig.OnCalendar = gc.dates;
      timerConfig.Persistent = true;
    };
  };
}
