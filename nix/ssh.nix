{ deployment, lib, ... }:
let
  # Such a key reads the facts that each preview reads, and nothing else.
  factsOnly = key: ''restrict,command="sh /etc/nixos/remote/host-facts.sh" ${key}'';
in
{
  services.openssh = {
    enable = true;
    # network.nix opens it.
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
      AllowUsers = [ "root" ];
      PermitRootLogin = "prohibit-password";
      AuthenticationMethods = "publickey";
      PasswordAuthentication = false;
      KbdInteractiveAuthentication = false;
      DisableForwarding = true;

      # Post-quantum where the client can. OpenSSH before 9.9 lacks ML-KEM, Go lacks sntrup.
      KexAlgorithms = [
        "mlkem768x25519-sha256"
        "sntrup761x25519-sha512"
        "sntrup761x25519-sha512@openssh.com"
        "curve25519-sha256"
        "curve25519-sha256@libssh.org"
      ];
      Ciphers = [
        "chacha20-poly1305@openssh.com"
        "aes256-gcm@openssh.com"
        "aes128-gcm@openssh.com"
      ];
      Macs = [
        "hmac-sha2-512-etm@openssh.com"
        "hmac-sha2-256-etm@openssh.com"
      ];

      LoginGraceTime = 30;
      MaxAuthTries = 4;
      MaxSessions = 4;
      # One address, or one IPv6 network, cannot take all places of those who have not logged in yet.
      MaxStartups = "10:30:60";
      PerSourceMaxStartups = 5;
      PerSourceNetBlockSize = "32:64";
      # sshd turns an address away for a while after three failed logins.
      PerSourcePenaltyExemptList = lib.concatStringsSep "," (
        [
          "127.0.0.0/8"
          "::1"
        ]
        ++ deployment.adminNetworks
      );
      # A connection that was cut is noticed after a minute and a half.
      ClientAliveInterval = 30;
      ClientAliveCountMax = 3;
    };
  };

  users.mutableUsers = false;
  users.users.root.openssh.authorizedKeys.keys =
    deployment.authorizedKeys ++ map factsOnly deployment.factsKeys;
}
