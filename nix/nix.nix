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

  # By number: by age (--delete-older-than), a host that was not deployed to for a while loses all former generations.
  # As many as the boot menu shows, so that each of its entries boots.
  nix.gc.automatic = true;
  nix.gc.dates = "weekly";
  systemd.services.nix-gc.serviceConfig.ExecStartPre =
    "${lib.getExe' config.nix.package "nix-env"} --profile /nix/var/nix/profiles/system --delete-generations +${generations}";
}
