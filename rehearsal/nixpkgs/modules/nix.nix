{ config, lib, ... }:
let
  inherit (lib) mkOption types;
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
  config.environment.etc."nix/nix.conf".text = lib.concatMapAttrsLines (
    name: value: "${name} = ${text value}"
  ) config.nix.settings;
}
