# The real nginx of Debian's, with a configuration written from the options in nixpkgs' order.
# Not modelled: gixy's check when it is built (tests/test_nix_nginx.py runs it), and the patch that makes an ETag of a store path.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  nginx = config.services.nginx;
  option =
    type: default:
    mkOption {
      inherit type default;
    };
  flag = option types.bool;
  lines = option types.lines "";
  maybe = type: option (types.nullOr type) null;

  location.options = {
    extraConfig = lines;
    priority = option types.int 1000;
    proxyPass = maybe types.str;
    proxyWebsockets = flag false;
    recommendedProxySettings = flag false;
    return = maybe (types.either types.str types.int);
    root = maybe types.path;
    tryFiles = maybe types.str;
  };
  virtualHost.options = {
    default = flag false;
    enableACME = flag false;
    extraConfig = lines;
    forceSSL = flag false;
    http2 = flag true;
    locations = option (types.attrsOf (types.submodule location)) { };
    rejectSSL = flag false;
    root = maybe types.path;
    serverAliases = option (types.listOf types.str) [ ];
  };

  said = directive: value: lib.optionalString (value != null) "${directive} ${toString value};";
  writtenLocation = name: l: ''
    location ${name} {
      ${said "root" l.root}
      ${said "try_files" l.tryFiles}
      ${said "return" l.return}
      ${said "proxy_pass" l.proxyPass}
      ${lib.optionalString l.proxyWebsockets "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;"}
      ${l.extraConfig}
    }
  '';
  byPriority =
    set: builtins.sort (a: b: set.${a}.priority < set.${b}.priority) (builtins.attrNames set);
  challenge = host: lib.optionalString host.enableACME ''
    location ^~ /.well-known/acme-challenge/ {
      root /var/lib/acme/acme-challenge;
      auth_basic off;
    }
  '';
  listen =
    host: port: parameters:
    let
      default = lib.optionalString host.default " default_server";
    in
    ''
      listen 0.0.0.0:${toString port}${parameters}${default};
      listen [::0]:${toString port}${parameters}${default};
    '';
  names = name: host: "server_name ${toString ([ name ] ++ host.serverAliases)};";
  redirect =
    name: host:
    lib.optionalString host.forceSSL ''
      server {
        ${listen host 80 ""}
        ${names name host}
        ${challenge host}
        location / {
          return 301 https://$host$request_uri;
        }
      }
    '';
  server =
    name: host:
    let
      directory = config.security.acme.certs.${name}.directory;
    in
    redirect name host
    + ''
      server {
        ${lib.optionalString (!host.forceSSL) (listen host 80 "")}
        ${lib.optionalString (host.forceSSL || host.rejectSSL) (listen host 443 " ssl")}
        ${names name host}
        http2 ${if host.http2 then "on" else "off"};
        ${challenge host}
        ${said "root" host.root}
        ${lib.optionalString host.enableACME ''
          ssl_certificate ${directory}/fullchain.pem;
          ssl_certificate_key ${directory}/key.pem;
          ssl_trusted_certificate ${directory}/chain.pem;
        ''}
        ${lib.optionalString host.rejectSSL "ssl_reject_handshake on;"}
        ${lib.concatMapStringsSep "\n" (l: writtenLocation l host.locations.${l}) (byPriority host.locations)}
        ${host.extraConfig}
      }
    '';
  temporary =
    kind: "${kind}_temp_path /var/cache/nginx/${kind};";

  configuration = pkgs.writeText "nginx.conf" ''
    pid /run/nginx/nginx.pid;
    error_log stderr;
    daemon off;
    events {
      ${nginx.eventsConfig}
    }
    http {
      include /usr/lib/rehearsal/etc/nginx/mime.types;
      types_hash_max_size 4096;
      default_type application/octet-stream;
      ${lib.concatMapStringsSep "\n" temporary [
        "client_body"
        "proxy"
        "fastcgi"
        "uwsgi"
        "scgi"
      ]}
      ${lib.optionalString nginx.recommendedOptimisation ''
        sendfile on;
        tcp_nopush on;
        tcp_nodelay on;
        keepalive_timeout 65;
      ''}
      ssl_protocols TLSv1.2 TLSv1.3;
      ssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305;
      ${lib.optionalString nginx.recommendedTlsSettings ''
        ssl_conf_command Groups "X25519MLKEM768:X25519:P-256:P-384";
        ssl_session_timeout 1d;
        ssl_session_cache shared:SSL:10m;
        ssl_session_tickets off;
        ssl_prefer_server_ciphers off;
      ''}
      map $http_upgrade $connection_upgrade {
        default upgrade;
        "" close;
      }
      ${lib.optionalString (nginx.serverNamesHashBucketSize != null) ''
        server_names_hash_bucket_size ${toString nginx.serverNamesHashBucketSize};
      ''}
      client_max_body_size ${nginx.clientMaxBodySize};
      server_tokens off;
      ${nginx.commonHttpConfig}
      ${lib.concatLines (lib.mapAttrsToList server nginx.virtualHosts)}
    }
    ${nginx.appendConfig}
  '';
  path = if nginx.enableReload then "/etc/nginx/nginx.conf" else "${configuration}";
  command = "${lib.getExe pkgs.nginx} -c ${path}";
  encrypted = builtins.attrNames (lib.filterAttrs (_: h: h.enableACME) nginx.virtualHosts);
  selfSigned = map (name: "acme-${name}.service") encrypted;
in
{
  options.services.nginx = {
    enable = flag false;
    enableReload = flag false;
    recommendedOptimisation = flag false;
    recommendedTlsSettings = flag false;
    appendConfig = lines;
    clientMaxBodySize = option types.str "10m";
    commonHttpConfig = lines;
    eventsConfig = lines;
    serverNamesHashBucketSize = maybe types.positive;
    virtualHosts = option (types.attrsOf (types.submodule virtualHost)) { };
  };

  config = lib.mkIf nginx.enable {
    users.users.nginx = {
      group = "nginx";
      isSystemUser = true;
    };
    users.groups.nginx.members = [ "acme" ];
    environment.etc."nginx/nginx.conf".source = configuration;
    security.acme.certs = lib.genAttrs encrypted (_: {
      group = lib.mkDefault "nginx";
      webroot = lib.mkDefault "/var/lib/acme/acme-challenge";
      reloadServices = [ "nginx.service" ];
    });

    systemd.services.nginx = {
      description = "Nginx Web Server";
      wantedBy = [ "multi-user.target" ];
      # As of 2024 to 2026: another certificate is another unit, which is restarted. Later ones name nginx in the
      # certificates' units.
      wants = selfSigned;
      after = [ "network.target" ] ++ selfSigned;
      stopIfChanged = false;
      preStart = "${command} -t";
      unitConfig.StartLimitIntervalSec = 60;
      serviceConfig = {
        Type = "simple";
        ExecStart = command;
        ExecReload = [
          "${command} -t"
          "/usr/bin/kill -HUP $MAINPID"
        ];
        Restart = "always";
        RestartSec = "10s";
        User = "nginx";
        Group = "nginx";
        RuntimeDirectory = "nginx";
        RuntimeDirectoryMode = "0750";
        CacheDirectory = "nginx";
        CacheDirectoryMode = "0750";
        LogsDirectory = "nginx";
        LogsDirectoryMode = "0750";
        UMask = "0027";
        AmbientCapabilities = [
          "CAP_NET_BIND_SERVICE"
          "CAP_SYS_RESOURCE"
        ];
        CapabilityBoundingSet = [
          "CAP_NET_BIND_SERVICE"
          "CAP_SYS_RESOURCE"
        ];
        LockPersonality = true;
        MemoryDenyWriteExecute = true;
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
        RestrictAddressFamilies = [
          "AF_UNIX"
          "AF_INET"
          "AF_INET6"
        ];
        RestrictNamespaces = true;
        RestrictRealtime = true;
        RestrictSUIDSGID = true;
        SystemCallArchitectures = "native";
        SystemCallFilter = [ "~@cpu-emulation @debug @keyring @mount @obsolete @privileged @setuid" ];
      };
    };
    # Without RemainAfterExit it runs at every switch, and at every start of what wants it.
    systemd.services.nginx-config-reload = lib.mkIf nginx.enableReload {
      wantedBy = [ "multi-user.target" ] ++ selfSigned;
      wants = [ "nginx.service" ];
      after = selfSigned;
      restartTriggers = [ configuration ];
      unitConfig = {
        ConditionPathExists = map (name: "${config.security.acme.certs.${name}.directory}/fullchain.pem") encrypted;
        StartLimitIntervalSec = 0;
      };
      serviceConfig = {
        Type = "oneshot";
        TimeoutSec = 60;
        ExecCondition = "/usr/bin/systemctl -q is-active nginx.service";
        ExecStart = "/usr/bin/systemctl reload nginx.service";
      };
    };
  };
}
