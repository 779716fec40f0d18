# What the conversion from Debian boots: a host that can be reached and deployed to, and nothing else.
{ pkgs, ... }:
{
  imports = [
    ./deployment.nix
    ./network.nix
    ./nix.nix
    ./ssh.nix
  ];

  # Only the scripted stage 1 knows NIXOS_LUSTRATE; nixpkgs 26.11 removes both, so this system stays on 26.05.
  boot.initrd.systemd.enable = false;
  # It forgets a lustration that a power cut ends, with the SSH host key in it.
  boot.initrd.postMountCommands = builtins.readFile ./finish-lustration.sh;

  environment.systemPackages = [ pkgs.jq ];
  system.stateVersion = "26.05";
}
