# A self-signed certificate first, so that nginx starts; then a real order by lego over HTTP-01, renewed by a timer.
# Of the orders that share an account, the first by name leads: the others require it, and without it do not run at all.
# Not modelled: DNS-01, lock files, an account in fact shared.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  acme = config.security.acme;
  inherited =
    name: type: default:
    mkOption {
      inherit type;
      default = if acme.defaults ? ${name} then acme.defaults.${name} else default;
    };
  shared = {
    email = types.nullOr types.str;
    group = types.str;
    keyType = types.str;
    postRun = types.lines;
    reloadServices = types.listOf types.str;
    renewInterval = types.str;
    server = types.nullOr types.str;
    webroot = types.nullOr types.str;
  };
  fallback = {
    email = null;
    group = "acme";
    keyType = "ec256";
    postRun = "";
    reloadServices = [ ];
    renewInterval = "daily";
    server = "https://acme-v02.api.letsencrypt.org/directory";
    webroot = null;
  };
  certificate =
    { name, ... }:
    {
      options =
        builtins.mapAttrs (option: type: inherited option type fallback.${option}) shared
        // {
          domain = mkOption {
            type = types.str;
            default = name;
          };
          directory = mkOption {
            type = types.str;
            readOnly = true;
            default = "/var/lib/acme/${name}";
          };
        };
    };
  common = cert: {
    Type = "oneshot";
    User = "acme";
    Group = cert.group;
    UMask = "0027";
    StateDirectory = "acme acme/${cert.domain} acme/.lego/${cert.domain}";
    StateDirectoryMode = "0755";
    ProtectSystem = "strict";
    ReadWritePaths = "/var/lib/acme";
    PrivateTmp = true;
    NoNewPrivileges = true;
  };
  environment = cert: {
    DOMAIN = cert.domain;
    EMAIL = cert.email;
    SERVER = cert.server;
    KEY_TYPE = cert.keyType;
    WEBROOT = cert.webroot;
    DIRECTORY = cert.directory;
    LEGO = "/var/lib/acme/.lego/${cert.domain}";
  };
  selfSign = name: cert: {
    description = "Ensure certificate for ${name}";
    wantedBy = [ "multi-user.target" ];
    wants = [
      "acme-setup.service"
      "acme-order-renew-${name}.service"
    ];
    after = [ "acme-setup.service" ];
    before = [ "acme-order-renew-${name}.service" ];
    path = [ pkgs.openssl ];
    environment = environment cert;
    # What is ordered changed, so the order is made again.
    restartTriggers = [ cert.server ];
    script = builtins.readFile ../system/self-sign.sh;
    serviceConfig = common cert // {
      RemainAfterExit = true;
    };
  };
  order = name: cert: {
    description = "Order (and renew) ACME certificate for ${name}";
    wants = [
      "network-online.target"
      "acme-setup.service"
      "acme-${name}.service"
    ];
    # Not after nginx, which is started at the same time.
    after = [
      "network.target"
      "network-online.target"
      "nss-lookup.target"
      "acme-setup.service"
      "acme-${name}.service"
    ];
    path = [
      pkgs.lego
      pkgs.diffutils
    ];
    environment = environment cert;
    script = builtins.readFile ../system/order.sh;
    serviceConfig = common cert // {
      RestartSec = 900;
      ExecStartPost = "+${lib.getExe (installed name cert)}";
    };
  };
  installed =
    name: cert:
    pkgs.writeShellApplication {
      name = "acme-postrun-${name}";
      runtimeInputs = [
        pkgs.coreutils
        pkgs.systemd
      ];
      text = ''
        cd ${cert.directory}
        [ -e renewed ] || exit 0
        rm renewed
        ${cert.postRun}
        systemctl --no-block try-reload-or-restart ${toString cert.reloadServices}
      '';
    };
  timer = name: cert: {
    description = "Renew ACME Certificate for ${name}";
    wantedBy = [ "timers.target" ];
    unitConfig.X-OnlyManualStart = true;
    timerConfig = {
      OnCalendar = cert.renewInterval;
      Unit = "acme-order-renew-${name}.service";
      Persistent = true;
      RandomizedDelaySec = "24h";
      FixedRandomDelay = true;
    };
  };
  orderOf = name: "acme-order-renew-${name}.service";
  account = name: "acme-account-${
    builtins.substring 0 20 (
      builtins.hashString "sha256" "${acme.certs.${name}.server} ${acme.certs.${name}.keyType} ${acme.certs.${name}.email}"
    )
  }";
  accounts = builtins.groupBy account (builtins.attrNames acme.certs);
  target =
    names:
    let
      leader = orderOf (builtins.head names);
      followers = map orderOf (builtins.tail names);
    in
    {
      requires = [ leader ];
      after = [ leader ];
      requiredBy = followers;
      before = followers;
      unitConfig.RefuseManualStart = true;
    };
  each = prefix: make: lib.mapAttrs' (name: cert: lib.nameValuePair "${prefix}${name}" (make name cert)) acme.certs;
in
{
  options.security.acme = {
    acceptTerms = mkOption {
      type = types.bool;
      default = false;
    };
    defaults = builtins.mapAttrs (
      name: type:
      mkOption {
        inherit type;
        default = fallback.${name};
      }
    ) shared;
    certs = mkOption {
      type = types.attrsOf (types.submodule certificate);
      default = { };
    };
  };

  config = lib.mkIf (acme.certs != { }) {
    assertions = [
      {
        assertion = acme.acceptTerms;
        message = "You must accept the CA's terms of service by setting security.acme.acceptTerms";
      }
    ];
    users.users.acme = {
      group = "acme";
      isSystemUser = true;
      home = "/var/lib/acme";
    };
    users.groups.acme = { };
    systemd.services = {
      acme-setup = {
        description = "Set up the ACME directories";
        serviceConfig = {
          Type = "oneshot";
          RemainAfterExit = true;
          User = "acme";
          Group = "acme";
          UMask = "0022";
          StateDirectory = "acme acme/acme-challenge";
          StateDirectoryMode = "0755";
        };
        script = "mkdir -p /var/lib/acme/acme-challenge/.well-known/acme-challenge";
      };
    }
    // each "acme-" selfSign
    // each "acme-order-renew-" order;
    systemd.targets = builtins.mapAttrs (_: target) accounts;
    systemd.timers = each "acme-renew-" timer;
  };
}
