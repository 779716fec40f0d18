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
      system =
        modules:
        nixpkgs.lib.nixosSystem {
          inherit modules;
          specialArgs.deployment = nixpkgs.lib.importJSON ./deployment.json;
        };
    in
    {
      nixosConfigurations.bootstrap = system [ ./bootstrap.nix ];
      nixosConfigurations.headscale = system [
        sops-nix.nixosModules.sops
        ./configuration.nix
      ];
    };
}
