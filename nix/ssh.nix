{ deployment, ... }:
{
  services.openssh = {
    enable = true;
    # Opened by network.nix, to whom it should be.
    openFirewall = false;
    authorizedKeysInHomedir = false;
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
