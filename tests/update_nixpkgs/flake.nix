# The small nixpkgs, but what is fetched is taken from /upstream and must have the hash that is pinned for it.
{
  inputs.small.url = "path:/usr/lib/rehearsal/nixpkgs";

  outputs =
    { small, ... }:
    let
      fetching =
        _: packages:
        let
          fetch =
            name: hash:
            packages.runCommand name {
              outputHash = hash;
              outputHashMode = "recursive";
            } "cp -r /upstream/${name} $out";
          changed = packages // {
            fetchFromGitHub = { tag, hash, ... }: fetch "headscale-${tag}" hash;
            fetchzip = { url, hash, ... }: fetch "ui-${baseNameOf (dirOf url)}" hash;
            # Any version is the one that is there.
            buildGo126Module =
              arguments:
              packages.headscale
              // {
                inherit (arguments) version;
                inherit (arguments) src;
                goModules = fetch "modules-${arguments.version}" arguments.vendorHash;
              };
            callPackage =
              file: arguments:
              let
                function = import file;
              in
              function (builtins.intersectAttrs (builtins.functionArgs function) changed // arguments);
          };
        in
        changed;
      legacyPackages = builtins.mapAttrs fetching small.legacyPackages;
    in
    {
      inherit legacyPackages;
      lib = small.lib // {
        nixosSystem = import "${small}/nixos.nix" {
          inherit (small) lib;
          packages = system: legacyPackages.${system};
        };
      };
    };
}
