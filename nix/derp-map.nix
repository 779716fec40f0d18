# Tailscale's relays as a file: from Tailscale's source at first, then refreshed daily, and never by a bad map.
{
  lib,
  pkgs,
  ...
}:
let
  name = "derp-map";
  map = "/var/lib/${name}/derp.yaml";
  packaged = pkgs.callPackage ./packages/derp-map.nix { };
  refresh = pkgs.writeShellApplication {
    name = "refresh-derp-map";
    runtimeInputs = [
      pkgs.coreutils
      pkgs.curl
      pkgs.python3
    ];
    text = builtins.readFile ./refresh-derp-map.sh;
  };
in
{
  # headscale does not start when a map's URL cannot be fetched, or its file is missing.
  # "Updating" means to it reading the file again, without a restart.
  services.headscale.settings.derp = {
    urls = [ ];
    paths = [ map ];
    auto_update_enabled = true;
    update_frequency = "1h";
  };
  systemd.tmpfiles.rules = [
    "d /var/lib/${name} 0755 ${name} ${name}"
    "C ${map} 0644 ${name} ${name} - ${packaged}"
  ];

  users.users.${name} = {
    isSystemUser = true;
    group = name;
  };
  users.groups.${name} = { };

  # What Tailscale refuses is not the configuration's fault.
  environment.etc."deployment/may-fail/derp-map".text = ''
    derp-map\.service
  '';

  # Not at boot and not when one was missed: a map of yesterday is a good map.
  systemd.timers.${name} = {
    description = "Refresh Tailscale's DERP map daily";
    wantedBy = [ "timers.target" ];
    timerConfig.OnCalendar = "daily";
    timerConfig.RandomizedDelaySec = "6h";
  };
  systemd.services.${name} = {
    description = "Refresh Tailscale's DERP map";
    environment = {
      SOURCE = "https://controlplane.tailscale.com/derpmap/default";
      MAP = map;
      CONVERTER = "${./packages/derp-map.py}";
      PATIENCE = "30";
    };
    serviceConfig = import ./sandbox.nix // {
      Type = "oneshot";
      ExecStart = lib.getExe refresh;
      TimeoutStartSec = 180;
      User = name;
      Group = name;
      StateDirectory = name;
      UMask = "0022";
      CapabilityBoundingSet = "";
      ProcSubset = "pid";
      RemoveIPC = true;
      RestrictAddressFamilies = "AF_INET AF_INET6 AF_UNIX";
      SystemCallFilter = [
        "@system-service"
        "~@privileged @resources"
      ];
    };
  };
}
