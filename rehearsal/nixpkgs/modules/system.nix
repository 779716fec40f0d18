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
  script.options = {
    text = mkOption { type = types.lines; };
    deps = mkOption {
      type = types.listOf types.str;
      default = [ ];
    };
  };
  textOf = script: if builtins.isString script then script else script.text;
in
{
  options = {
    assertions = mkOption {
      type = types.listOf types.unspecified;
      default = [ ];
    };
    nixpkgs.hostPlatform = mkOption {
      type = types.either types.str types.attrs;
    };
    system.stateVersion = mkOption { type = types.str; };
    system.switch.inhibitors = mkOption {
      type = types.attrsOf types.str;
      default = { };
    };
    system.activationScripts = mkOption {
      type = types.attrsOf (types.either types.str (types.submodule script));
      default = { };
    };
    system.build = mkOption {
      type = types.submodule { freeformType = types.attrsOf types.unspecified; };
      default = { };
    };
  };

  config.assertions = [
    {
      assertion = builtins.match "[0-9]{2}\\.[0-9]{2}" config.system.stateVersion != null;
      message = "${config.system.stateVersion} is an invalid value for 'system.stateVersion'; it must be in the format YY.MM";
    }
    {
      assertion = config.boot.initrd.systemd.enable -> config.boot.initrd.postMountCommands == "";
      message = "systemd stage 1 does not support 'boot.initrd.postMountCommands'.";
    }
  ];
  config.system.build.toplevel = pkgs.build {
    pname = "nixos-system-${config.networking.hostName}";
    version = "${config.system.stateVersion}.rehearsal";
    builder = ../system/toplevel.sh;
    programs = ../system;
    etc = config.system.build.etc;
    sw = config.system.build.path;
    release = "${config.system.stateVersion}.rehearsal";
    kernel = ../system/kernel;
    kernelParams = toString config.boot.kernelParams;
    inhibitors = builtins.toJSON config.system.switch.inhibitors;
    initrd = config.boot.initrd.postMountCommands;
    passAsFile = [
      "description"
      "initrd"
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
    scripts = lib.concatMapStringsSep "\n" (
      name: textOf config.system.activationScripts.${name}
    ) scripts;
  };
}
