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
  known = {
    Ciphers = option (types.nullOr (types.listOf types.str)) null;
    KbdInteractiveAuthentication = flag true;
    KexAlgorithms = option (types.nullOr (types.listOf types.str)) null;
    LogLevel = option types.str "INFO";
    Macs = option (types.nullOr (types.listOf types.str)) null;
    PasswordAuthentication = flag true;
    PermitRootLogin = option (types.enum [
      "yes"
      "without-password"
      "prohibit-password"
      "forced-commands-only"
      "no"
    ]) "prohibit-password";
    StrictModes = flag true;
    UsePAM = flag true;
    X11Forwarding = flag false;
  };
  atom = types.nullOr (
    types.oneOf [
      types.bool
      types.int
      types.str
    ]
  );
  hostKey.options = {
    path = mkOption { type = types.path; };
    type = mkOption { type = types.str; };
  };
  said =
    value:
    if builtins.isBool value then
      (if value then "yes" else "no")
    else if builtins.isList value then
      builtins.concatStringsSep "," value
    else
      toString value;
  configured = lib.filterAttrs (_: v: v != null) sshd.settings;
  keyFiles = [ "/etc/ssh/authorized_keys.d/%u" ] ++ lib.optional sshd.authorizedKeysInHomedir "%h/.ssh/authorized_keys" ++ sshd.authorizedKeysFiles;
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
    hostKeys = option (types.listOf (types.submodule hostKey)) [ ];
    settings = option (types.submodule {
      options = known;
      freeformType = types.attrsOf atom;
    }) { };
  };

  config = lib.mkIf sshd.enable {
    networking.firewall.allowedTCPPorts = lib.optionals sshd.openFirewall sshd.ports;
    environment.etc = {
      "ssh/sshd_config".text = ''
        ${lib.concatMapAttrsLines (name: value: "${name} ${said value}") configured}
        AuthorizedKeysFile ${toString keyFiles}
        ${lib.concatLines (map (key: "HostKey ${key.path}") sshd.hostKeys)}
        ${lib.concatLines (map (port: "Port ${toString port}") sshd.ports)}
        Subsystem sftp /usr/lib/openssh/sftp-server
        # NixOS's PATH for sessions comes from its own PAM.
        SetEnv PATH=${config.environment.sessionPath}
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
