# Debian's fail2ban with the files and the unit of nixpkgs' module.
# Not modelled: `jails.<name>.filter`, which 26.05 reads wrongly, jails as text, and iptables.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  fail2ban = config.services.fail2ban;
  option =
    type: default:
    mkOption {
      inherit type default;
    };
  flag = option types.bool;
  maybe = type: option (types.nullOr type) null;
  atoms = types.attrsOf types.iniAtom;
  jail.options = {
    enabled = flag true;
    settings = option atoms { };
  };

  # As written by nixpkgs' generator for INI.
  said = value: if builtins.isBool value then lib.boolToString value else toString value;
  section =
    name: settings:
    "[${name}]\n${lib.concatMapAttrsLines (key: value: "${key} = ${said value}") settings}";
  ini = name: sections: pkgs.writeText name (lib.concatMapAttrsLines section sections);
  written =
    name: jail: lib.optionalAttrs (name != "DEFAULT") { inherit (jail) enabled; } // jail.settings;

  kept = "/usr/lib/rehearsal/etc/fail2ban";
  daemon = ini "fail2ban.local" fail2ban.daemonSettings;
  jails = ini "jail.local" (
    { INCLUDES.before = "paths-nixos.conf"; } // builtins.mapAttrs written fail2ban.jails
  );
  paths = ini "paths-nixos.conf" {
    INCLUDES.before = "paths-common.conf";
    INCLUDES.after = "paths-overrides.local";
    DEFAULT = { };
  };
  increment = lib.filterAttrs (
    name: value: value != null && name != "enable"
  ) fail2ban.bantime-increment;
  command = name: lib.getExe' pkgs.fail2ban "fail2ban-${name}";
in
{
  options.services.fail2ban = {
    enable = flag false;
    ignoreIP = option (types.listOf types.str) [ ];
    maxretry = option types.unsigned 3;
    banaction = option types.str "nftables-multiport";
    banaction-allports = option types.str "nftables-allports";
    bantime = option types.str "10m";
    bantime-increment = {
      enable = flag false;
      rndtime = maybe types.str;
      maxtime = maybe types.str;
      factor = maybe types.str;
      formula = maybe types.str;
      multipliers = maybe types.str;
      overalljails = maybe types.bool;
    };
    daemonSettings = option (types.attrsOf atoms) { };
    jails = option (types.attrsOf (types.either types.lines (types.submodule jail))) { };
  };

  config = lib.mkIf fail2ban.enable {
    services.openssh.settings.LogLevel = lib.mkDefault "VERBOSE";
    services.fail2ban.daemonSettings.Definition = builtins.mapAttrs (_: lib.mkDefault) {
      logtarget = "SYSLOG";
      socket = "/run/fail2ban/fail2ban.sock";
      pidfile = "/run/fail2ban/fail2ban.pid";
      dbfile = "/var/lib/fail2ban/fail2ban.sqlite3";
    };
    services.fail2ban.jails.DEFAULT.settings = {
      inherit (fail2ban) banaction bantime maxretry;
      banaction_allports = fail2ban.banaction-allports;
      backend = "systemd";
      ignoreip = "127.0.0.1/8 ::1 ${toString fail2ban.ignoreIP}";
    }
    // lib.optionalAttrs fail2ban.bantime-increment.enable (
      {
        "bantime.increment" = true;
      }
      // lib.mapAttrs' (name: lib.nameValuePair "bantime.${name}") increment
    );
    services.fail2ban.jails.sshd.settings.port = lib.mkDefault (
      lib.concatMapStringsSep "," toString config.services.openssh.ports
    );

    environment.systemPackages = [ pkgs.fail2ban ];
    environment.etc = {
      "fail2ban/fail2ban.conf".source = "${kept}/fail2ban.conf";
      "fail2ban/fail2ban.local".source = daemon;
      "fail2ban/jail.conf".source = "${kept}/jail.conf";
      "fail2ban/jail.local".source = jails;
      "fail2ban/paths-common.conf".source = "${kept}/paths-common.conf";
      "fail2ban/paths-nixos.conf".source = paths;
      "fail2ban/action.d".source = "${kept}/action.d/*.conf";
      "fail2ban/filter.d".source = "${kept}/filter.d/*.conf";
    };

    systemd.services.fail2ban = {
      description = "Fail2Ban Service";
      wantedBy = [ "multi-user.target" ];
      after = [
        "network.target"
        "nftables.service"
      ];
      restartTriggers = [
        daemon
        jails
        paths
      ];
      path = [
        pkgs.fail2ban
        pkgs.nftables
        pkgs.iproute2
      ];
      serviceConfig = {
        ExecStart = "${command "server"} -xf start";
        ExecStop = "${command "client"} stop";
        ExecReload = "${command "client"} reload";
        PIDFile = "/run/fail2ban/fail2ban.pid";
        Restart = "on-failure";
        RestartPreventExitStatus = "0 255";
        CapabilityBoundingSet = [
          "CAP_AUDIT_READ"
          "CAP_DAC_READ_SEARCH"
          "CAP_NET_ADMIN"
          "CAP_NET_RAW"
        ];
        NoNewPrivileges = true;
        RuntimeDirectory = "fail2ban";
        RuntimeDirectoryMode = "0700";
        StateDirectory = "fail2ban";
        StateDirectoryMode = "0750";
        LogsDirectory = "fail2ban";
        LogsDirectoryMode = "0750";
        ProtectSystem = "strict";
        ProtectHome = true;
        PrivateTmp = true;
        PrivateDevices = true;
        ProtectHostname = true;
        ProtectKernelTunables = true;
        ProtectKernelModules = true;
        ProtectControlGroups = true;
      };
    };
  };
}
