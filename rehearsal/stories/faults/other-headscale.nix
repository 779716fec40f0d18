# The pinned headscale calls itself otherwise, and changes its database. It starts only on tables that it knows, so what a
# later version would change is played by a row.
{
  config,
  lib,
  pkgs,
  ...
}:
{
  environment.etc."headscale/version".text = lib.mkForce "0.30.0";
  systemd.services.headscale.path = [ pkgs.sqlite ];
  systemd.services.headscale.environment.DATABASE =
    config.services.headscale.settings.database.sqlite.path;
  systemd.services.headscale.preStart = builtins.readFile ./migrate.sh;
}
