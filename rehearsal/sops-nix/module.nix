# Secrets are opened by the real sops at activation: /run/secrets.d/N, which /run/secrets points to.
# Not modelled: templates, other formats than YAML, GnuPG, a RAM disk of their own.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  sops = config.sops;
  strings = mkOption {
    type = types.listOf types.str;
    default = [ ];
  };
  paths = mkOption {
    type = types.listOf types.path;
    default = [ ];
  };
  outsideStore = types.checked "path not in the Nix store" "noun" (
    v: !lib.hasPrefix builtins.storeDir (toString v)
  ) types.path;
  secret =
    { name, ... }:
    {
      options = {
        name = mkOption {
          type = types.str;
          default = name;
        };
        key = mkOption {
          type = types.str;
          default = name;
        };
        path = mkOption {
          type = types.str;
          default = "/run/secrets/${name}";
        };
        sopsFile = mkOption {
          type = types.path;
          default = sops.defaultSopsFile;
        };
        mode = mkOption {
          type = types.str;
          default = "0400";
        };
        owner = mkOption {
          type = types.nullOr types.str;
          default = "root";
        };
        restartUnits = strings;
        reloadUnits = strings;
      };
    };
  manifest = pkgs.writeText "secrets.json" (
    builtins.toJSON {
      inherit (sops.age) keyFile;
      secrets = lib.mapAttrsToList (
        _: s:
        s
        // {
          sopsFile = "${s.sopsFile}";
          group = config.users.users.${s.owner}.group;
        }
      ) sops.secrets;
    }
  );
in
{
  options.sops = {
    defaultSopsFile = mkOption { type = types.path; };
    validateSopsFiles = mkOption {
      type = types.bool;
      default = true;
    };
    age.keyFile = mkOption {
      type = types.nullOr outsideStore;
      default = null;
    };
    age.sshKeyPaths = paths;
    gnupg.sshKeyPaths = paths;
    secrets = mkOption {
      type = types.attrsOf (types.submodule secret);
      default = { };
    };
  };

  config = lib.mkIf (sops.secrets != { }) {
    assertions = [
      {
        assertion = sops.age.keyFile != null;
        message = "No key source configured for sops. Set sops.age.keyFile";
      }
    ];
    system.activationScripts.setupSecrets.text = ''
      echo "setting up secrets..."
      /usr/bin/python3 -I ${./install.py} ${manifest} ${lib.getExe pkgs.sops}
    '';
  };
}
