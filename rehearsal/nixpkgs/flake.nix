{
  description = "As much of nixpkgs as this project's configuration uses, realised on a Debian 13 container";

  outputs =
    { self }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      packages = system: import ./pkgs { inherit system; };
      lib = import ./lib // {
        inherit nixosSystem;
      };
      nixosSystem =
        {
          system ? null,
          modules,
          specialArgs ? { },
        }:
        let
          evaluated = lib.evaluate {
            modules = [ ./modules ] ++ modules ++ lib.optional (system != null) { nixpkgs.hostPlatform = system; };
            arguments = {
              modulesPath = toString ./modules;
              pkgs = packages evaluated.config.nixpkgs.hostPlatform;
            }
            // specialArgs;
          };
          failed = builtins.filter (a: !a.assertion) evaluated.config.assertions;
        in
        if failed == [ ] then
          evaluated
        else
          throw "Failed assertions:\n${lib.concatMapStringsSep "\n" (a: "- ${a.message}") failed}";
    in
    {
      inherit lib;
      legacyPackages = lib.genAttrs systems packages;
    };
}
