# A Hetzner Cloud server whose Debian became NixOS: one root file system, an ESP, either firmware.
{ deployment, modulesPath, ... }:
let
  x86 = deployment.system == "x86_64-linux";
in
{
  imports = [ "${modulesPath}/profiles/qemu-guest.nix" ];

  nixpkgs.hostPlatform = deployment.system;
  networking.hostName = deployment.hostName;

  # By label: with a volume attached, the kernel may name the disks in another order.
  fileSystems."/" = {
    device = "/dev/disk/by-label/nixos";
    fsType = "ext4";
    autoResize = true;
  };
  fileSystems."/boot/efi" = {
    device = "/dev/sda15";
    fsType = "vfat";
    options = [
      "umask=0077"
      "nofail"
    ];
  };

  # Which firmware a new server has cannot be known beforehand: BIOS and removable EFI are both served.
  boot.loader.grub = {
    device = if x86 then "/dev/sda" else "nodev";
    efiSupport = true;
    efiInstallAsRemovable = true;
    configurationLimit = 10;
  };
  boot.loader.efi.efiSysMountPoint = "/boot/efi";

  boot.growPartition = true;
  boot.tmp.cleanOnBoot = true;

  # AppArmor and audit take effect at boot only. They are here from the first boot, so no second one is owed.
  security.lsm = [ "apparmor" ];
  boot.kernelParams = [
    "apparmor=1"
    "audit=1"
    "audit_backlog_limit=8192"
    "console=tty0"
  ];

  # 4 GB of memory do not hold an evaluation and a build of headscale at once.
  zramSwap.enable = true;
}
