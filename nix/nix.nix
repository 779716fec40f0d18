{ config, lib, ... }:
let
  gibibyte = 1024 * 1024 * 1024;
  generations = toString config.boot.loader.grub.configurationLimit;
in
{
  nix.settings = {
    experimental-features = [
      "nix-command"
      "flakes"
    ];
    auto-optimise-store = true;
    # The flake pins its inputs; there is nothing to look up elsewhere.
    flake-registry = "";
    # A build that would fill the disk collects garbage first.
    min-free = 2 * gibibyte;
    max-free = 8 * gibibyte;
  };
  nix.channel.enable = false;

  # By number, since by age (--delete-older-than) a host that nobody deployed to for a while loses every way back.
  # As many as the boot menu shows, so that none of its entries leads nowhere.
  nix.gc.automatic = true;
  nix.gc.dates = "weekly";
  systemd.services.nix-gc.serviceConfig.ExecStartPre =
    "${lib.getExe' config.nix.package "nix-env"} --profile /nix/var/nix/profiles/system --delete-generations +${generations}";
}
