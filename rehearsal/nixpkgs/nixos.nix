# A system's modules evaluated together; what their assertions find wrong is an error, and so is a definition that
# nothing here would ever look at.
{ lib, packages }:
{
  system ? null,
  modules,
  specialArgs ? { },
}:
let
  evaluated = lib.evaluate {
    modules =
      (import ./modules).imports
      ++ modules
      ++ lib.optional (system != null) { nixpkgs.hostPlatform = system; };
    arguments = {
      modulesPath = toString ./modules;
      pkgs = packages evaluated.config.nixpkgs.hostPlatform;
    }
    // specialArgs;
  };
  failed = builtins.filter (a: !a.assertion) evaluated.config.assertions;
in
if failed == [ ] then
  builtins.deepSeq evaluated.config evaluated
else
  throw "Failed assertions:\n${lib.concatMapStringsSep "\n" (a: "- ${a.message}") failed}"
