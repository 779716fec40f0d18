# headscale cannot import an API key: the hash of the one in the SOPS file is written into its database.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  api = "http://127.0.0.1:${toString config.services.headscale.port}";
  register = pkgs.writeShellApplication {
    name = "register-api-key";
    runtimeInputs = [
      config.services.headscale.package
      pkgs.coreutils
      pkgs.curl
      pkgs.gnused
      pkgs.mkpasswd
      pkgs.sqlite
    ];
    text = builtins.readFile ./register-api-key.sh;
  };
  check = pkgs.writeShellApplication {
    name = "check-api-key";
    runtimeInputs = [
      pkgs.coreutils
      pkgs.systemd
    ];
    text = builtins.readFile ./check-api-key.sh;
  };
  drift = pkgs.writeShellApplication {
    name = "api-key-drift";
    runtimeEnv.API = api;
    runtimeEnv.KEY = config.sops.secrets.headscale_api_key.path;
    runtimeInputs = [
      pkgs.curl
      pkgs.gnused
    ];
    text = builtins.readFile ./api-key-drift.sh;
  };
  again = pkgs.writeShellApplication {
    name = "register-api-key-again";
    runtimeInputs = [
      drift
      pkgs.systemd
    ];
    text = builtins.readFile ./register-api-key-again.sh;
  };
in
{
  environment.etc."deployment/checks/headscale-api-key".source = lib.getExe check;
  environment.etc."deployment/drift/headscale-api-key".source = lib.getExe drift;
  environment.etc."deployment/after/headscale-api-key".source = lib.getExe again;

  systemd.services.headscale-api-key = {
    description = "Make headscale know the API key of the SOPS file";
    wantedBy = [
      "headscale.service"
      "multi-user.target"
    ];
    after = [ "headscale.service" ];
    # Not `requires`, and below not `oneshot`: a headscale that fails again and again would keep every switch waiting for
    # this unit. A deploy's check looks at it.
    wants = [ "headscale.service" ];
    # A headscale that starts may have lost its database, and the key with it.
    partOf = [ "headscale.service" ];
    environment.API = api;
    environment.DATABASE = config.services.headscale.settings.database.sqlite.path;
    serviceConfig = import ./sandbox.nix // {
      Type = "exec";
      RemainAfterExit = true;
      ExecStart = lib.getExe register;
      User = config.services.headscale.user;
      Group = config.services.headscale.group;
      LoadCredential = "api-key:${config.sops.secrets.headscale_api_key.path}";
      # headscale's own: the database is there, and it may be up before it has made it.
      StateDirectory = "headscale";
      StateDirectoryMode = "0750";
      UMask = "0077";

      CapabilityBoundingSet = "";
      IPAddressAllow = "localhost";
      IPAddressDeny = "any";
      PrivateIPC = true;
      PrivateUsers = true;
      ProcSubset = "pid";
      RemoveIPC = true;
      RestrictAddressFamilies = [
        "AF_INET"
        "AF_UNIX"
      ];
      SystemCallErrorNumber = "EPERM";
      SystemCallFilter = [
        "@system-service"
        "~@privileged @resources"
      ];
    };
  };

  sops.secrets.headscale_api_key.restartUnits = [ "headscale-api-key.service" ];
}
