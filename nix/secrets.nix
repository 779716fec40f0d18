# What the stack's SOPS file holds lies under /run/secrets once the host's age key has opened it.
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
