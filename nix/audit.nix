# An audit trail of changes to this host, and of what only an intruder does. Normal operation writes next to nothing.
{ config, lib, ... }:
let
  state = dirOf config.services.headscale.settings.database.sqlite.path;
  on = what: key: "-a always,exit -F arch=b64 ${what} -k ${key}";
  changes = key: map (path: on "-F path=${path} -F perm=wa" key);
  changesBelow = key: map (path: on "-F dir=${path} -F perm=wa" key);
  calls = key: names: [ (on "-S ${lib.concatStringsSep "," names}" key) ];
in
{
  security.audit = {
    # As in hetzner-cloud.nix, which is there from the first boot.
    backlogLimit = 8192;
    rules =
      changes "identity" [
        "/etc/group"
        "/etc/passwd"
        "/etc/shadow"
        "/etc/ssh/ssh_host_ed25519_key"
      ]
      ++ changesBelow "secrets" [ "/var/lib/sops-nix" ]
      ++ changesBelow "system" [
        "/boot"
        "/etc/nixos"
        "/nix/var/nix/profiles"
      ]
      ++ calls "modules" [
        "init_module"
        "finit_module"
        "delete_module"
      ]
      ++ calls "time" [
        "clock_settime"
        "settimeofday"
      ]
      # On a new host the directory comes with headscale's first start, and a rule for one that is missing is an error.
      ++ [
        "-i"
        (on "-F dir=${state} -F perm=rwa -F uid!=${config.services.headscale.user}" "headscale")
      ];
  };

  # Kernels from 6.19 refuse the rules of NixOS 26.05: https://github.com/NixOS/nixpkgs/issues/513202
  environment.etc."deployment/may-fail/audit".text = ''
    audit-rules-nixos\.service
  '';

  # auditd itself neither rotates nor limits its log.
  security.auditd.enable = true;
  security.auditd.settings = {
    log_format = "ENRICHED";
    max_log_file = 8;
    max_log_file_action = "ROTATE";
    num_logs = 8;
  };

  # By default journald takes a tenth of the disk, and the store needs it.
  services.journald.extraConfig = "SystemMaxUse=1G";
}
