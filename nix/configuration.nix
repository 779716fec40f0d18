{
  config,
  pkgs,
  ...
}:
{
  imports = [
    ./api-key.nix
    ./deployment.nix
    ./derp-map.nix
    ./headscale-ui.nix
    ./headscale.nix
    ./hetzner-cloud.nix
    ./network.nix
    ./nginx.nix
    ./nix.nix
    ./secrets.nix
    ./ssh.nix
  ];

  environment.systemPackages = [
    config.services.headscale.package
    pkgs.curl
    pkgs.jq
    pkgs.mkpasswd
    pkgs.openssl
    pkgs.sqlite
  ];
  system.stateVersion = "26.05";
}
