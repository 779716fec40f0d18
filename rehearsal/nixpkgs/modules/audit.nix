# Rules and auditd's configuration as files. The units that load them do not start in a container, here as on NixOS.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  audit = config.security.audit;
  option =
    type: default:
    mkOption {
      inherit type default;
    };
  failureModes = {
    silent = 0;
    printk = 1;
    panic = 2;
  };
  rules = pkgs.writeText "audit.rules" ''
    -D
    -b ${toString audit.backlogLimit}
    -f ${toString failureModes.${audit.failureMode}}
    -r ${toString audit.rateLimit}
    ${lib.concatLines audit.rules}
    -e ${if audit.enable == "lock" then "2" else "1"}
  '';
  atom = types.nullOr (
    types.oneOf [
      types.bool
      types.int
      types.str
    ]
  );
  space = types.either types.int (types.strMatching "[0-9]+%");
  said = value: if builtins.isBool value then (if value then "yes" else "no") else toString value;
  unit = {
    wantedBy = [ "sysinit.target" ];
    before = [ "sysinit.target" ];
    unitConfig.DefaultDependencies = false;
    unitConfig.ConditionVirtualization = "!container";
  };
in
{
  options.security = {
    audit = {
      enable = option (types.enum [
        false
        true
        "lock"
      ]) false;
      backlogLimit = option types.int 1024;
      failureMode = option (types.enum [
        "silent"
        "printk"
        "panic"
      ]) "printk";
      rateLimit = option types.int 0;
      rules = option (types.listOf types.str) [ ];
    };
    auditd.enable = option types.bool false;
    auditd.settings = option (types.submodule {
      options.space_left = option space 75;
      options.admin_space_left = option space 50;
      freeformType = types.attrsOf atom;
    }) { };
  };

  config = lib.mkMerge [
    (lib.mkIf config.security.auditd.enable {
      security.audit.enable = lib.mkDefault true;
      environment.etc."audit/auditd.conf".text = lib.concatMapAttrsLines (
        name: value: "${name} = ${said value}"
      ) config.security.auditd.settings;
      systemd.services.auditd = unit // {
        description = "Security Audit Logging Service";
        serviceConfig.ExecStart = "${lib.getExe pkgs.audit} -l -n -s nochange";
        serviceConfig.LogsDirectory = "audit";
      };
    })
    (lib.mkIf (audit.enable != false) {
      boot.kernelParams = [
        "audit=1"
        "audit_backlog_limit=${toString audit.backlogLimit}"
      ];
      systemd.services.audit-rules-nixos = unit // {
        description = "Load Audit Rules";
        serviceConfig.Type = "oneshot";
        serviceConfig.RemainAfterExit = true;
        serviceConfig.ExecStart = "${lib.getExe' pkgs.audit "auditctl"} -R ${rules}";
      };
    })
  ];
}
