{ config, lib, ... }:
{
  options.services.journald.extraConfig = lib.mkOption {
    type = lib.types.lines;
    default = "";
  };
  config.environment.etc."systemd/journald.conf".text = ''
    [Journal]
    Storage=persistent
    ${config.services.journald.extraConfig}
  '';
}
