# Which headscale is taken when nixpkgs and a newer one have these versions.
{ tree, versions }:
let
  packages = import /usr/lib/rehearsal/nixpkgs/pkgs { system = "x86_64-linux"; };
  of = version: {
    inherit version;
    from = "compiled ${version}";
  };
  chosen = packages.callPackage (tree + "/packages/headscale.nix") {
    compiled = map of (packages.lib.filter builtins.isString (builtins.split " " versions));
  };
in
{
  taken = chosen.from or "own ${chosen.version}";
}
