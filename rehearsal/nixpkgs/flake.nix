{
  description = "As much of nixpkgs as this project's configuration uses, realised on a Debian 13 container";

  outputs =
    _:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      packages = system: import ./pkgs { inherit system; };
      lib = import ./lib // {
        inherit nixosSystem;
      };
      nixosSystem = import ./nixos.nix { inherit lib packages; };
    in
    {
      inherit lib;
      legacyPackages = lib.genAttrs systems packages;
    };
}
