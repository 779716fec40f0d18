# Options that are checked by type and have no effect in a container: disks, boot loader details, kernel.
{ lib, ... }:
let
  inherit (lib) mkOption types;
  option =
    type: default:
    mkOption {
      inherit type default;
    };
  flag = option types.bool;
  nonEmpty = types.checked "string (with check: non-empty)" "noun" (v: v != "") types.str;
  kernelParameter = types.checked "string, with spaces inside double quotes" "noun" (
    v: builtins.match "([^\"[:space:]]|\"[^\"]*\")+" v != null
  ) types.str;
  fileSystem.options = {
    device = option (types.nullOr nonEmpty) null;
    fsType = option nonEmpty "auto";
    autoResize = flag false;
    options = option (types.nonEmptyListOf nonEmpty) [ "defaults" ];
  };
in
{
  options = {
    boot = {
      growPartition = flag false;
      initrd.postMountCommands = option types.lines "";
      initrd.systemd.enable = flag true;
      kernelParams = option (types.listOf kernelParameter) [ ];
      tmp.cleanOnBoot = flag false;
      loader.efi.efiSysMountPoint = option types.str "/boot";
      loader.grub = {
        configurationLimit = option types.int 100;
        device = option types.str "";
        efiInstallAsRemovable = flag false;
        efiSupport = flag false;
      };
    };
    fileSystems = option (types.attrsOf (types.submodule fileSystem)) { };
    services.tailscale.enable = flag false;
    security.lsm = option (types.listOf types.str) [ ];
    zramSwap.enable = flag false;
  };

  config.security.lsm = [
    "landlock"
    "yama"
    "bpf"
  ];
}
