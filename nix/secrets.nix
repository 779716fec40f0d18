# sops-nix decrypts the stack's SOPS file with the host's age key into /run/secrets.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  line =
    _: secret:
    "${if secret.owner == null then "root" else secret.owner} ${secret.mode} ${secret.path}\n";
  drift = pkgs.writeShellApplication {
    name = "secrets-drift";
    runtimeEnv.SECRETS = pkgs.writeText "secrets" (
      lib.concatStringsSep "" (lib.mapAttrsToList line config.sops.secrets)
    );
    runtimeInputs = [ pkgs.coreutils ];
    text = builtins.readFile ./secrets-drift.sh;
  };
in
{
  sops.defaultSopsFile =
    if builtins.pathExists ./secrets/headscale.yaml then
      ./secrets/headscale.yaml
    else
      ./secrets/sample.yaml;
  sops.age.keyFile = "/var/lib/sops-nix/key.txt";
  # By default every SSH host key is tried as well.
  sops.age.sshKeyPaths = [ ];
  sops.gnupg.sshKeyPaths = [ ];

  environment.etc."deployment/drift/secrets".source = lib.getExe drift;
}
