{ deployment, ... }:
{
  services.openssh = {
    enable = true;
    # Opened by network.nix, to whom it should be.
    openFirewall = false;
    authorizedKeysInHomedir = false;
    # The new deploy key, until the deploy that makes it one of those below is confirmed.
    authorizedKeysFiles = [ "/var/lib/deployment/authorized_keys" ];
    hostKeys = [
      {
        path = "/etc/ssh/ssh_host_ed25519_key";
        type = "ed25519";
      }
    ];
    settings = {
      PermitRootLogin = "prohibit-password";
      PasswordAuthentication = false;
      KbdInteractiveAuthentication = false;
      X11Forwarding = false;
      AllowAgentForwarding = false;
      AllowTcpForwarding = false;
    };
  };

  users.mutableUsers = false;
  users.users.root.openssh.authorizedKeys.keys = deployment.authorizedKeys;
}
