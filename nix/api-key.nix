# headscale has no import of API keys: the key of the SOPS file is made known to it by its hash.
{
  config,
  lib,
  pkgs,
  ...
}:
let
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
in
{
  systemd.services.headscale-api-key = {
    description = "Make headscale know the API key of the SOPS file";
    wantedBy = [
      "headscale.service"
      "multi-user.target"
    ];
    after = [ "headscale.service" ];
    # Not `requires`, and below not `oneshot`: a headscale that fails again and again would keep every switch waiting for
    # this unit. A deploy looks at it by itself.
    wants = [ "headscale.service" ];
    # A headscale that starts may have lost its database, and the key with it.
    partOf = [ "headscale.service" ];
    environment.API = "http://127.0.0.1:${toString config.services.headscale.port}";
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
