{
  description = "As much of sops-nix as this project's configuration uses, with the real sops";

  inputs.nixpkgs.url = "nixpkgs";

  outputs =
    { self, nixpkgs }:
    {
      nixosModules.sops = ./module.nix;
    };
}
