{
  config,
  pkgs,
  ...
}:
{
  imports = [
    ./api-key.nix
    ./apparmor.nix
    ./audit.nix
    ./deployment.nix
    ./derp-map.nix
    ./fail2ban.nix
    ./headscale-ui.nix
    ./headscale.nix
    ./network.nix
    ./nginx-units.nix
    ./nginx.nix
    ./nix.nix
    ./secrets.nix
    ./ssh.nix
  ];

  environment.systemPackages = [
    config.services.headscale.package
    pkgs.curl
    pkgs.jq
    pkgs.openssl
    pkgs.sqlite
  ];
  system.stateVersion = "26.05";
}
