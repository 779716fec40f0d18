# /etc, PATH and the few files every program of Debian's expects there.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  kept = "/usr/lib/rehearsal/etc";
  entry =
    { name, config, ... }:
    {
      options = {
        enable = mkOption {
          type = types.bool;
          default = true;
        };
        target = mkOption {
          type = types.str;
          default = name;
        };
        text = mkOption {
          type = types.nullOr types.lines;
          default = null;
        };
        source = mkOption {
          type = types.path;
          default = pkgs.writeText (baseNameOf config.target) config.text;
        };
        mode = mkOption {
          type = types.str;
          default = "symlink";
        };
        user = mkOption {
          type = types.str;
          default = "root";
        };
        group = mkOption {
          type = types.str;
          default = "root";
        };
      };
    };
  entries = lib.filterAttrs (_: e: e.enable) config.environment.etc;
  sessionPath = builtins.concatStringsSep ":" [
    "/run/wrappers/bin"
    "/root/.nix-profile/bin"
    "/nix/profile/bin"
    "/etc/profiles/per-user/root/bin"
    "/nix/var/nix/profiles/default/bin"
    "/run/current-system/sw/bin"
  ];
in
{
  options.environment = {
    etc = mkOption {
      type = types.attrsOf (types.submodule entry);
      default = { };
    };
    systemPackages = mkOption {
      type = types.listOf types.package;
      default = [ ];
    };
  };

  config = {
    environment.systemPackages = [
      pkgs.standardTools
      pkgs.nix
      pkgs.grub2
      (pkgs.writeShellApplication {
        name = "nixos-version";
        text = "cat /run/current-system/nixos-version && echo";
      })
    ];
    environment.etc = {
      "alternatives".source = "${kept}/alternatives";
      "bashrc".text = "PS1='[\\u@\\h:\\w]\\$ '";
      "hostname".text = "${config.networking.hostName}\n";
      "hosts".text = ''
        127.0.0.1 localhost
        ::1 localhost
        127.0.0.2 ${config.networking.hostName}
      '';
      "ld.so.cache".source = "${kept}/ld.so.cache";
      "login.defs".source = "${kept}/login.defs";
      "nsswitch.conf".text = ''
        passwd: files systemd
        group: files systemd
        shadow: files
        hosts: files dns
        services: files
        protocols: files
      '';
      "os-release".text = ''
        ANSI_COLOR="0;38;2;126;186;228"
        ID=nixos
        NAME=NixOS
        PRETTY_NAME="NixOS ${config.system.stateVersion} (rehearsal)"
        VERSION_CODENAME=rehearsal
        VERSION_ID="${config.system.stateVersion}"
      '';
      "profile".text = ''
        export PATH=${sessionPath}
      '';
      "security".source = "${kept}/security";
      "shells".text = "/run/current-system/sw/bin/bash\n";
      "ssl/certs/ca-certificates.crt".source = "/usr/lib/rehearsal/ca.crt";
      "ssl/openssl.cnf".source = "${kept}/ssl/openssl.cnf";
      # Debian's own generator would bring cloud-init to life again.
      "systemd/system-generators/cloud-init-generator".source = "/dev/null";
      "systemd/system-preset/00-nixos.preset".text = "ignore *\n";
    };
    system.build = {
      inherit sessionPath;
      path = pkgs.build {
        pname = "system-path";
        builder = ../system/path.sh;
        packages = lib.unique config.environment.systemPackages;
      };
      etc = pkgs.build {
        pname = "etc";
        builder = ../system/etc.sh;
        targets = lib.mapAttrsToList (_: e: e.target) entries;
        sources = lib.mapAttrsToList (_: e: "${e.source}") entries;
      };
      etcEntries = lib.mapAttrs' (
        _: e:
        lib.nameValuePair e.target {
          inherit (e) mode user group;
        }
      ) entries;
    };
  };
}
