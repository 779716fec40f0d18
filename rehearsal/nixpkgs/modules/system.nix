# The system as one directory: what boots, what activates, what switches.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  scripts = builtins.attrNames config.system.activationScripts;
in
{
  options = {
    assertions = mkOption {
      type = types.listOf types.raw;
      default = [ ];
    };
    nixpkgs.hostPlatform = mkOption {
      type = types.enum [
        "x86_64-linux"
        "aarch64-linux"
      ];
    };
    system.stateVersion = mkOption {
      type = types.matching "a release, e.g. 26.05" "[0-9]{2}\\.[0-9]{2}";
    };
    system.activationScripts = mkOption {
      type = types.attrsOf types.lines;
      default = { };
    };
    system.build = mkOption {
      type = types.attrsOf types.raw;
      default = { };
    };
  };

  config.system.build.toplevel = pkgs.build {
    pname = "nixos-system-${config.networking.hostName}";
    version = "${config.system.stateVersion}.rehearsal";
    builder = ../system/toplevel.sh;
    programs = ../system;
    etc = config.system.build.etc;
    sw = config.system.build.path;
    release = "${config.system.stateVersion}.rehearsal";
    kernelParams = toString config.boot.kernelParams;
    passAsFile = [
      "description"
      "scripts"
    ];
    description = builtins.toJSON {
      etc = config.system.build.etcEntries;
      accounts = config.system.build.accounts;
      inherit (config.networking) hostName;
      grub = {
        inherit (config.boot.loader.grub)
          device
          efiInstallAsRemovable
          efiSupport
          ;
        inherit (config.boot.loader.efi) efiSysMountPoint;
        platform = config.nixpkgs.hostPlatform;
        inherit (config.boot) kernelParams;
      };
    };
    scripts = lib.concatMapStringsSep "\n" (name: config.system.activationScripts.${name}) scripts;
  };
}
