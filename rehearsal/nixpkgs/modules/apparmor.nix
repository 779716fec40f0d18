# Policies as files, and the unit that loads them where the kernel has AppArmor; a container's has not.
# Their includes are Debian's.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  apparmor = config.security.apparmor;
  policy.options = {
    state = mkOption {
      type = types.enum [
        "disable"
        "complain"
        "enforce"
      ];
      default = "enforce";
    };
    path = mkOption { type = types.nullOr types.path; };
  };
  loaded = lib.filterAttrs (_: p: p.state != "disable") apparmor.policies;
  parser =
    verb: _: p:
    "${lib.getExe pkgs.apparmor-parser} --${verb} ${
      lib.optionalString (p.state == "complain") "--complain "
    }${p.path}";
  policies = lib.mapAttrs' (name: p: lib.nameValuePair "apparmor.d/${name}" { source = p.path; }) loaded;
in
{
  options.security.apparmor = {
    enable = mkOption {
      type = types.bool;
      default = false;
    };
    policies = mkOption {
      type = types.attrsOf (types.submodule policy);
      default = { };
    };
  };

  config = lib.mkIf apparmor.enable {
    boot.kernelParams = [ "apparmor=1" ];
    security.lsm = [ "apparmor" ];
    environment.etc = policies // {
      "apparmor/parser.conf".text = ''
        skip-cache
        Include /etc/apparmor.d
        Include /usr/lib/rehearsal/etc/apparmor.d
      '';
    };
    systemd.services.apparmor = {
      description = "Load AppArmor policies";
      wantedBy = [ "multi-user.target" ];
      after = [ "local-fs.target" ];
      before = [ "sysinit.target" ];
      unitConfig.DefaultDependencies = false;
      unitConfig.ConditionSecurity = "apparmor";
      reloadIfChanged = true;
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        ExecStart = lib.mapAttrsToList (parser "add") loaded;
        ExecReload = lib.mapAttrsToList (parser "replace") loaded;
      };
    };
  };
}
