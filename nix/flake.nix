{
  description = "A headscale server on NixOS";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
    # Stays on this release: later ones have no scripted stage 1, which the conversion from Debian needs.
    nixpkgs-bootstrap.url = "github:NixOS/nixpkgs/nixos-26.05";
    # Gives headscale, compiled, as long as nixpkgs has another version than the pinned one; and nothing else.
    nixpkgs-headscale.url = "github:NixOS/nixpkgs/nixos-unstable";
    sops-nix.url = "github:Mic92/sops-nix";
    sops-nix.inputs.nixpkgs.follows = "nixpkgs";
  };

  outputs =
    {
      nixpkgs,
      nixpkgs-bootstrap,
      nixpkgs-headscale,
      sops-nix,
      ...
    }:
    let
      inherit (nixpkgs) lib;
      deployment = lib.importJSON ./deployment.json;
      argumentsFor = platform: {
        inherit deployment;
        newerHeadscale = nixpkgs-headscale.legacyPackages.${platform}.headscale;
      };
      system =
        release: modules:
        release.lib.nixosSystem {
          modules = [ ./hetzner-cloud.nix ] ++ modules;
          specialArgs = argumentsFor deployment.system;
        };
      forEachSystem =
        f:
        lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (
          platform: f platform nixpkgs.legacyPackages.${platform}
        );
    in
    {
      nixosConfigurations.bootstrap = system nixpkgs-bootstrap [ ./bootstrap.nix ];
      nixosConfigurations.headscale = system nixpkgs [
        sops-nix.nixosModules.sops
        ./configuration.nix
      ];

      packages = forEachSystem (_: pkgs: {
        # Our own build of it, whose hashes are pinned.
        headscale = pkgs.callPackage ./packages/headscale.nix { };
        headscale-ui = pkgs.callPackage ./packages/headscale-ui.nix { };
      });

      checks = forEachSystem (
        platform: pkgs: {
          devices-join = pkgs.testers.runNixOSTest (
            import ./checks/devices-join.nix {
              inherit sops-nix;
              arguments = argumentsFor platform;
            }
          );
        }
      );
    };
}
