# headscale's service. What headscale reads and nixpkgs does not type is free, as it is there.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  headscale = config.services.headscale;
  option =
    type: default:
    mkOption {
      inherit type default;
    };
  strings = types.listOf types.str;
  record.options = {
    name = mkOption { type = types.str; };
    type = mkOption {
      type = types.enum [
        "A"
        "AAAA"
      ];
    };
    value = mkOption { type = types.str; };
  };
  typed = {
    server_url = option types.str "http://127.0.0.1:8080";
    noise.private_key_path = option types.path "/var/lib/headscale/noise_private.key";
    prefixes.v4 = option types.str "100.64.0.0/10";
    prefixes.v6 = option types.str "fd7a:115c:a1e0::/48";
    prefixes.allocation = option (types.enum [
      "sequential"
      "random"
    ]) "sequential";
    derp.urls = option strings [ "https://controlplane.tailscale.com/derpmap/default" ];
    derp.paths = option (types.listOf types.path) [ ];
    derp.auto_update_enabled = option types.bool true;
    derp.update_frequency = option types.str "24h";
    derp.server.private_key_path = option types.path "/var/lib/headscale/derp_server_private.key";
    ephemeral_node_inactivity_timeout = option types.str "30m";
    database.type = option (types.enum [
      "sqlite"
      "sqlite3"
      "postgres"
    ]) "sqlite";
    database.sqlite.path = option (types.nullOr types.str) "/var/lib/headscale/db.sqlite";
    database.sqlite.write_ahead_log = option types.bool true;
    log.level = option types.str "info";
    log.format = option types.str "text";
    dns.magic_dns = option types.bool true;
    dns.base_domain = option types.str "";
    dns.override_local_dns = option types.bool true;
    dns.nameservers.global = option strings [ ];
    dns.search_domains = option strings [ ];
    dns.extra_records = option (types.nullOr (types.listOf (types.submodule record))) null;
    policy.mode = option (types.enum [
      "file"
      "database"
    ]) "file";
    policy.path = option (types.nullOr types.path) null;
  };
  fixed = {
    disable_check_updates = true;
    unix_socket = "/run/headscale/headscale.sock";
  };
in
{
  options.services.headscale = {
    enable = option types.bool false;
    package = option types.package pkgs.headscale;
    user = option types.str "headscale";
    group = option types.str "headscale";
    address = option types.str "127.0.0.1";
    port = option types.port 8080;
    settings = option (types.submodule {
      options = typed;
      freeformType = types.attrsOf types.data;
    }) { };
    configFile = mkOption {
      type = types.path;
      readOnly = true;
      default = pkgs.writeText "headscale.yaml" (builtins.toJSON headscale.settings);
    };
  };

  config = lib.mkIf headscale.enable {
    assertions = [
      {
        assertion = headscale.settings.dns.magic_dns -> headscale.settings.dns.base_domain != "";
        message = "dns.base_domain must be set when using MagicDNS";
      }
      {
        assertion =
          headscale.settings.dns.override_local_dns -> headscale.settings.dns.nameservers.global != [ ];
        message = "dns.nameservers.global must be set when overriding local DNS";
      }
    ];
    services.headscale.settings = fixed // {
      listen_addr = lib.mkDefault "${headscale.address}:${toString headscale.port}";
    };
    environment.etc."headscale/config.yaml".text = builtins.toJSON fixed;
    environment.systemPackages = [ headscale.package ];
    users.users.${headscale.user} = {
      group = headscale.group;
      home = "/var/lib/headscale";
      isSystemUser = true;
    };
    users.groups.${headscale.group} = { };

    systemd.services.headscale = {
      description = "headscale coordination server for Tailscale";
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ];
      script = "exec ${lib.getExe headscale.package} serve --config ${headscale.configFile}";
      serviceConfig = {
        Restart = "always";
        RestartSec = "5s";
        User = headscale.user;
        Group = headscale.group;
        RuntimeDirectory = "headscale";
        RuntimeDirectoryMode = "0750";
        StateDirectory = "headscale";
        StateDirectoryMode = "0750";
        UMask = "0077";
        AmbientCapabilities = [ "CAP_CHOWN" ];
        CapabilityBoundingSet = [ "CAP_CHOWN" ];
        LockPersonality = true;
        NoNewPrivileges = true;
        PrivateDevices = true;
        PrivateMounts = true;
        PrivateTmp = true;
        ProcSubset = "pid";
        ProtectClock = true;
        ProtectControlGroups = true;
        ProtectHome = true;
        ProtectHostname = true;
        ProtectKernelLogs = true;
        ProtectKernelModules = true;
        ProtectKernelTunables = true;
        ProtectProc = "invisible";
        ProtectSystem = "strict";
        RemoveIPC = true;
        RestrictAddressFamilies = "AF_INET AF_INET6 AF_UNIX";
        RestrictNamespaces = true;
        RestrictRealtime = true;
        RestrictSUIDSGID = true;
        SystemCallArchitectures = "native";
        SystemCallFilter = [
          "@system-service"
          "~@privileged"
          "@chown"
        ];
      };
    };
  };
}
