# Confine the files and capabilities of headscale and nginx. The units are confined, not the programs: the operator's own
# `headscale` command may write its output to any file.
let
  confined = profile: {
    # Without the profile the unit does not start.
    wants = [ "apparmor.service" ];
    after = [ "apparmor.service" ];
    serviceConfig.AppArmorProfile = profile;
  };
in
{
  security.apparmor.enable = true;
  security.apparmor.policies = {
    headscale.path = ./headscale.apparmor;
    nginx.path = ./nginx.apparmor;
  };

  systemd.services.headscale = confined "headscale";
  systemd.services.nginx = confined "nginx";
}
