{
  description = "A headscale server on NixOS";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
    sops-nix.url = "github:Mic92/sops-nix";
    sops-nix.inputs.nixpkgs.follows = "nixpkgs";
  };

  outputs =
    { nixpkgs, sops-nix, ... }:
    let
      inherit (nixpkgs) lib;
      deployment = lib.importJSON ./deployment.json;
      system =
        modules:
        lib.nixosSystem {
          modules = [ ./hetzner-cloud.nix ] ++ modules;
          specialArgs = { inherit deployment; };
        };
      forEachSystem =
        f: lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (platform: f nixpkgs.legacyPackages.${platform});
    in
    {
      nixosConfigurations.bootstrap = system [ ./bootstrap.nix ];
      nixosConfigurations.headscale = system [
        sops-nix.nixosModules.sops
        ./configuration.nix
      ];

      packages = forEachSystem (pkgs: {
        headscale = pkgs.callPackage ./packages/headscale.nix { };
        headscale-ui = pkgs.callPackage ./packages/headscale-ui.nix { };
      });

      checks = forEachSystem (pkgs: {
        devices-join = pkgs.testers.runNixOSTest (
          import ./checks/devices-join.nix { inherit deployment sops-nix; }
        );
      });
    };
}
