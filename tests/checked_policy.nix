# The policy as a build checks it, by a headscale that knows `flag` and tells it in its help: in a sentence, and in the list.
{ flag, tree }:
let
  packages = import /usr/lib/rehearsal/nixpkgs/pkgs { system = "x86_64-linux"; };
  headscale = packages.writeShellApplication {
    name = "headscale";
    text = ''
      case "$*" in
      *"--help") printf 'Without a server, pass ${flag} to\nit.\n      ${flag}   Open the database\n' ;;
      *" ${flag}") ;;
      *) echo "unknown flag in $*" >&2; exit 1 ;;
      esac
    '';
  };
in
packages.callPackage (tree + "/packages/checked-policy.nix") {
  inherit headscale;
  configFile = "/dev/null";
  policy = tree + "/policy.hujson";
}
