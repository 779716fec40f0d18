# sops-nix decrypts the stack's SOPS file with the host's age key into /run/secrets.
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
}
