# What the conversion from Debian boots: a host that can be reached and deployed to, and nothing else.
{ pkgs, ... }:
{
  imports = [
    ./deployment.nix
    ./network.nix
    ./nix.nix
    ./ssh.nix
  ];

  # Only the scripted stage 1 knows NIXOS_LUSTRATE; nixpkgs 26.11 removes both.
  boot.initrd.systemd.enable = false;

  environment.systemPackages = [ pkgs.jq ];
  system.stateVersion = "26.05";
}
