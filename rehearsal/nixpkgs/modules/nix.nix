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
      type = types.attrsOf (
        types.oneOf [
          types.bool
          types.int
          types.str
          (types.listOf types.str)
        ]
      );
      default = { };
    };
  };
  config.environment.etc."nix/nix.conf".text = lib.concatMapAttrsLines (
    name: value: "${name} = ${text value}"
  ) config.nix.settings;
}
