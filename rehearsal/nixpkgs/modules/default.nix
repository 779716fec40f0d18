{
  imports = [
    ./accepted.nix
    ./acme.nix
    ./environment.nix
    ./fail2ban.nix
    ./firewall.nix
    ./headscale.nix
    ./networkd.nix
    ./nginx.nix
    ./nix.nix
    ./openssh.nix
    ./system.nix
    ./systemd.nix
    ./users.nix
  ];
}
