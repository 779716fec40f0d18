# `nix flake check` boots this: the server as it is configured, and two devices that join it and reach each other.
{ arguments, sops-nix }:
{ pkgs, ... }:
let
  inherit (arguments) deployment;
  # The driver numbers the machines by their names' order, and their addresses with them.
  here = deployment // {
    ipv4 = "192.168.1.3";
    ipv6 = "2001:db8:1::3";
  };
  authority = "/etc/authority.pem";
  device = {
    services.tailscale.enable = true;
    # No authority on the internet issues certificates to a virtual machine; the server's own is copied here.
    systemd.services.tailscaled.environment.SSL_CERT_FILE = authority;
    networking.hosts.${here.ipv4} = [
      deployment.headscaleName
      deployment.uiName
    ];
  };
  secrets = pkgs.runCommand "secrets" {
    nativeBuildInputs = [
      pkgs.age
      pkgs.sops
    ];
  } (builtins.readFile ./secrets.sh);
in
{
  name = "devices-join";
  node.specialArgs = arguments // {
    deployment = here;
  };

  nodes.laptop = device;
  nodes.phone = device;
  nodes.server =
    { lib, ... }:
    {
      imports = [
        sops-nix.nixosModules.sops
        ../configuration.nix
      ];
      # The driver's network has no DHCP.
      systemd.network.networks."10-wan" = {
        matchConfig.Name = lib.mkForce "eth1";
        networkConfig.DHCP = lib.mkForce "no";
        address = [ "${here.ipv4}/24" ];
      };
      # Built, so nix cannot look at it while it evaluates.
      sops.validateSopsFiles = false;
      sops.defaultSopsFile = lib.mkForce "${secrets}/secrets.yaml";
      system.activationScripts.ageKey.text = ''
        install -D -m 0400 ${secrets}/key.txt /var/lib/sops-nix/key.txt
      '';
      system.activationScripts.setupSecrets.deps = [ "ageKey" ];
    };

  testScript = builtins.readFile ./devices-join.py;
}
