{
  config,
  lib,
  ...
}:
let
  inherit (lib) mkOption types;
  withoutColons =
    type:
    types.checked "${type.name}, not containing newlines or colons" null (
      v: builtins.match "[^:\n]*" (toString v) != null
    ) type;
  user = {
    options = {
      uid = mkOption {
        type = types.nullOr types.int;
        default = null;
      };
      group = mkOption {
        type = types.str;
        default = "";
      };
      extraGroups = mkOption {
        type = types.listOf types.str;
        default = [ ];
      };
      home = mkOption {
        type = withoutColons types.path;
        default = "/var/empty";
      };
      description = mkOption {
        type = withoutColons types.str;
        default = "";
      };
      isSystemUser = mkOption {
        type = types.bool;
        default = false;
      };
      openssh.authorizedKeys.keys = mkOption {
        type = types.listOf types.singleLineStr;
        default = [ ];
      };
    };
  };
  group.options = {
    gid = mkOption {
      type = types.nullOr types.int;
      default = null;
    };
    members = mkOption {
      type = types.listOf (withoutColons types.str);
      default = [ ];
    };
  };
  withKeys = lib.filterAttrs (_: u: u.openssh.authorizedKeys.keys != [ ]) config.users.users;
  homeless = lib.filterAttrs (_: u: u.group == "") config.users.users;
in
{
  options.users = {
    mutableUsers = mkOption {
      type = types.bool;
      default = true;
    };
    users = mkOption {
      type = types.attrsOf (types.submodule user);
      default = { };
    };
    groups = mkOption {
      type = types.attrsOf (types.submodule group);
      default = { };
    };
  };

  config = {
    assertions =
      lib.mapAttrsToList (name: _: {
        assertion = false;
        message = "users.users.${name}.group is unset";
      }) homeless
      ++ [
        {
          assertion = config.users.mutableUsers || withKeys ? root;
          message = "Neither the root account nor any wheel user has a password or SSH authorized key.";
        }
      ];
    users.users.root = {
      uid = 0;
      group = "root";
      home = "/root";
      description = "System administrator";
    };
    users.groups.root.gid = 0;
    users.groups.nixbld.gid = 30000;
    # sshd distrusts a file below a directory that a group may write to, and the store is one: so a copy.
    environment.etc = lib.mapAttrs' (
      name: u:
      lib.nameValuePair "ssh/authorized_keys.d/${name}" {
        text = builtins.concatStringsSep "\n" u.openssh.authorizedKeys.keys + "\n";
        mode = "0444";
      }
    ) withKeys;
    system.build.accounts = {
      users = builtins.mapAttrs (_: u: {
        inherit (u)
          uid
          group
          extraGroups
          home
          description
          ;
      }) config.users.users;
      groups = builtins.mapAttrs (_: g: { inherit (g) gid members; }) config.users.groups;
    };
  };
}
