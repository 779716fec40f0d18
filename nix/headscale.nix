{
  config,
  deployment,
  lib,
  newerHeadscale,
  pkgs,
  ...
}:
let
  package = pkgs.callPackage ./packages/headscale.nix {
    compiled = [
      pkgs.headscale
      newerHeadscale
    ];
  };
  noiseKey = config.sops.secrets.headscale_noise_private_key;
  state = "/var/lib/headscale";
  # nixpkgs 26.05 writes its 30 minutes under a former key as well, which headscale calls deprecated at each start.
  configFile = pkgs.writeText "headscale.yaml" (
    builtins.toJSON (
      lib.filterAttrsRecursive (_: value: value != null) (
        removeAttrs config.services.headscale.settings [ "ephemeral_node_inactivity_timeout" ]
      )
    )
  );
  upstream = "http://127.0.0.1:${toString config.services.headscale.port}";
  # headscale does not reload a policy whose tests name a user or a tag without a node.
  withoutTests = ./policy-without-tests.hujson;
  application =
    name: env: inputs:
    pkgs.writeShellApplication {
      inherit name;
      runtimeEnv = env;
      runtimeInputs = inputs ++ [ pkgs.coreutils ];
      text = builtins.readFile ./${name}.sh;
    };
  health = application "check-headscale" { HEALTH = "${upstream}/health"; } [
    pkgs.curl
    pkgs.gnugrep
    pkgs.systemd
  ];
  data = application "headscale-data" { DATABASE = config.services.headscale.settings.database.sqlite.path; } [
    pkgs.sqlite
    pkgs.systemd
  ];
  judge = application "judge-deployed-policy" { } [
    pkgs.diffutils
    pkgs.systemd
  ];
  reload = application "reload-policy" { } [ pkgs.systemd ];
  drift = application "headscale-drift" { } [ pkgs.diffutils ];
  warnings = application "headscale-warnings" { HEALTH = "${upstream}/health"; } [
    pkgs.curl
    pkgs.gnugrep
    pkgs.systemd
  ];
  names = [ deployment.headscaleName ] ++ deployment.formerHeadscaleNames;
  # From the name, not from its position: old workers serve for days after a reload.
  addressOf =
    name:
    let
      digest = builtins.hashString "sha256" name;
      byte = at: toString (lib.fromHexString (builtins.substring at 2 digest));
    in
    "127.1.${byte 0}.${byte 2}";

  # Only paths that headscale knows. /verify, /swagger, /metrics, /debug and the API stay inside.
  hostOf = name: {
    enableACME = true;
    forceSSL = true;
    extraConfig = ''
      include ${./response-headers.conf};
      include ${./error-pages.conf};
      # Not for the other host: headscale-ui escapes names in paths, which are not plain then.
      if ($path_is_plain = 0) {
        set $asked_by disguise;
        return 400;
      }
      add_header Content-Security-Policy "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'" always;
    '';
    # A device keeps one connection to this path, so that connections from a name's address are its devices.
    locations."= /ts2021" = {
      proxyPass = upstream;
      extraConfig = ''
        include ${./for-devices.conf};
        proxy_bind ${addressOf name};
      '';
    };
    locations."~ ^/(key|bootstrap-dns|derp|derp/.+|machine/.+)$" = {
      proxyPass = upstream;
      extraConfig = "include ${./for-devices.conf};";
    };
    locations."~ ^/(health|version|robots\\.txt|favicon\\.ico|windows|apple|apple/.+|register/.+|auth/.+|oidc/callback)$" =
      {
        proxyPass = upstream;
        extraConfig = "include ${./for-people.conf};";
      };
    locations."/".return = "404";
    locations."/.pages/".extraConfig = ''
      internal;
      alias ${./pages}/;
    '';
  };
in
{
  services.headscale = {
    enable = true;
    inherit package;
    address = "127.0.0.1";
    port = 8085;

    # headscale ignores keys it does not know, and nixpkgs does not know all that it reads: a typo is silent.
    settings = {
      server_url = "https://${deployment.headscaleName}";
      # The metrics listener shows the whole configuration without asking who wants it.
      metrics_listen_addr = "127.0.0.1:9090";
      unix_socket_permission = "0770";
      trusted_proxies = [
        "127.0.0.0/8"
        "::1/128"
      ];
      noise.private_key_path = noiseKey.path;
      prefixes.v4 = "100.64.0.0/10";
      prefixes.v6 = "fd7a:115c:a1e0::/48";
      logtail.enabled = false;
      node.ephemeral.inactivity_timeout = "30m";

      database.type = "sqlite";
      database.sqlite.path = "${state}/db.sqlite";
      database.sqlite.write_ahead_log = true;

      derp.server = {
        enabled = true;
        region_id = 999;
        region_code = "headscale";
        region_name = "headscale's own relay";
        # Without it, anyone may relay through this server.
        verify_clients = true;
        # Both families: Go listens on [::] for 0.0.0.0.
        stun_listen_addr = "0.0.0.0:3478";
        private_key_path = "${state}/derp_server_private.key";
        automatically_add_embedded_derp_region = true;
        inherit (deployment) ipv4 ipv6;
      };

      dns.magic_dns = true;
      dns.base_domain = deployment.baseDomain;
      dns.override_local_dns = false;
      dns.extra_records = deployment.extraRecords;

      policy.mode = "file";
      policy.path = "/etc/headscale/policy.hujson";
    };
  };

  # At a path that stays, so that a change of the policy is a reload and no device loses its connection.
  environment.etc."headscale/policy.hujson".source = pkgs.callPackage ./packages/checked-policy.nix {
    headscale = package;
    inherit configFile;
    policy = if builtins.pathExists withoutTests then withoutTests else ./policy.hujson;
  };
  # For judge-policy.sh, which runs its tests by the users and nodes of the day.
  environment.etc."headscale/policy-with-tests.hujson".source = ./policy.hujson;
  # Rolled back together with the version is the database.
  environment.etc."headscale/version".text = package.version;
  environment.etc."deployment/before/headscale-policy".source = lib.getExe judge;
  environment.etc."deployment/data/headscale".source = lib.getExe data;
  environment.etc."deployment/after/headscale-policy".source = lib.getExe reload;
  environment.etc."deployment/drift/headscale".source = lib.getExe drift;
  environment.etc."deployment/warnings/headscale".source = lib.getExe warnings;
  environment.etc."deployment/checks/headscale".source = lib.getExe health;
  environment.etc."deployment/checks/headscale-website".source = import ./check-website.nix {
    inherit lib pkgs;
    name = deployment.headscaleName;
    page = "/health";
  };

  systemd.services.deployment-undo.before = [ "headscale.service" ];
  systemd.services.deployment-undo.serviceConfig.ReadWritePaths = [ "-${state}" ];
  systemd.services.headscale = {
    requires = [ "deployment-undo.service" ];
    script = lib.mkForce "exec ${lib.getExe package} serve --config ${configFile}";
    # Connections by a name that is not served any more would go on for days.
    restartTriggers = names;
    reloadTriggers = [ config.environment.etc."headscale/policy.hujson".source ];
    # A policy that headscale refuses goes unnoticed by SIGHUP, and stops it from starting the next time.
    serviceConfig.ExecReload = [
      "${lib.getExe package} policy check --file ${config.services.headscale.settings.policy.path}"
      "${lib.getExe' pkgs.coreutils "kill"} -HUP $MAINPID"
    ];
    # Beyond what nixpkgs sets: headscale changes no owner, and makes no memory executable.
    serviceConfig = {
      AmbientCapabilities = lib.mkForce "";
      CapabilityBoundingSet = lib.mkForce "";
      MemoryDenyWriteExecute = true;
      PrivateUsers = true;
    };
    # headscale would make itself another key, and no device that knows the old one would ever come back.
    unitConfig.AssertFileNotEmpty = noiseKey.path;
  };

  sops.secrets.headscale_noise_private_key = {
    owner = config.services.headscale.user;
    restartUnits = [ "headscale.service" ];
  };

  services.nginx.virtualHosts = lib.genAttrs names hostOf;
  # Of the system that runs: /etc/nixos may have been written to by now for the next one.
  environment.etc."deployment/names.json".text = builtins.toJSON {
    inherit (deployment)
      headscaleName
      formerHeadscaleNames
      uiName
      baseDomain
      ;
    addresses = lib.genAttrs names addressOf;
  };

  assertions = map (name: {
    assertion = !lib.hasSuffix ".${deployment.baseDomain}" ".${name}";
    message = "deployment.json: baseDomain ${deployment.baseDomain} is ${name} or a parent of it: devices could not reach headscale. Set headscale:baseDomain to another name.";
  }) names;
}
