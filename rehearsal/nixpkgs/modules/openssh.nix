{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  sshd = config.services.openssh;
  option =
    type: default:
    mkOption {
      inherit type default;
    };
  flag = option types.bool;
  maybe = type: option (types.nullOr type);
  known = {
    AllowUsers = maybe (types.listOf types.str) null;
    Ciphers = maybe (types.listOf types.str) null;
    KbdInteractiveAuthentication = maybe types.bool true;
    KexAlgorithms = maybe (types.listOf types.str) null;
    LogLevel = maybe (types.enum [
      "QUIET"
      "FATAL"
      "ERROR"
      "INFO"
      "VERBOSE"
      "DEBUG"
      "DEBUG1"
      "DEBUG2"
      "DEBUG3"
    ]) "INFO";
    Macs = maybe (types.listOf types.str) null;
    PasswordAuthentication = maybe types.bool true;
    PermitRootLogin = maybe (types.enum [
      "yes"
      "without-password"
      "prohibit-password"
      "forced-commands-only"
      "no"
    ]) "prohibit-password";
    StrictModes = maybe types.bool true;
    UsePAM = maybe types.bool true;
    X11Forwarding = maybe types.bool false;
  };
  said =
    name: value:
    if builtins.isBool value then
      (if value then "yes" else "no")
    else if builtins.isList value && name != "AllowUsers" then
      builtins.concatStringsSep "," value
    else
      toString value;
  configured = lib.filterAttrs (_: v: v != null) sshd.settings;
  keyFiles = [
    "/etc/ssh/authorized_keys.d/%u"
  ]
  ++ lib.optional sshd.authorizedKeysInHomedir "%h/.ssh/authorized_keys"
  ++ sshd.authorizedKeysFiles;
  pam = session: ''
    auth required pam_unix.so
    account required pam_unix.so
    session required pam_unix.so
    ${session}
  '';
in
{
  options.services.openssh = {
    enable = flag false;
    openFirewall = flag true;
    authorizedKeysFiles = option (types.listOf types.str) [ ];
    authorizedKeysInHomedir = flag true;
    ports = option (types.listOf types.port) [ 22 ];
    hostKeys = option (types.listOf types.attrs) [ ];
    settings = option (types.submodule {
      options = known;
      freeformType = types.attrsOf types.iniAtom;
    }) { };
  };

  config = lib.mkIf sshd.enable {
    networking.firewall.allowedTCPPorts = lib.optionals sshd.openFirewall sshd.ports;
    environment.etc = {
      "ssh/sshd_config".text = ''
        ${lib.concatMapAttrsLines (name: value: "${name} ${said name value}") configured}
        AuthorizedKeysFile ${toString keyFiles}
        ${lib.concatLines (map (key: "HostKey ${key.path}") sshd.hostKeys)}
        ${lib.concatLines (map (port: "Port ${toString port}") sshd.ports)}
        Subsystem sftp /usr/lib/openssh/sftp-server
        # NixOS's PATH for sessions comes from its own PAM.
        SetEnv PATH=${config.system.build.sessionPath}
      '';
      "pam.d/sshd".text = pam "session optional pam_systemd.so";
      "pam.d/systemd-user".text = pam "session optional pam_systemd.so";
      "pam.d/login".text = pam "session optional pam_systemd.so";
      "pam.d/other".text = "auth required pam_deny.so\naccount required pam_deny.so\n";
    };
    systemd.services.sshd = {
      description = "SSH Daemon";
      wantedBy = [ "multi-user.target" ];
      after = [ "network.target" ];
      stopIfChanged = false;
      restartTriggers = [ config.environment.etc."ssh/sshd_config".source ];
      path = [ pkgs.openssh ];
      preStart = lib.concatLines (
        map (key: ''
          [ -s ${key.path} ] || ssh-keygen -q -t ${key.type} -N "" -f ${key.path}
        '') sshd.hostKeys
      );
      serviceConfig = {
        ExecStart = "/usr/sbin/sshd -D -f /etc/ssh/sshd_config";
        # Sessions outlive a restart of the daemon.
        KillMode = "process";
        Restart = "always";
        RuntimeDirectory = "sshd";
      };
    };
  };
}
