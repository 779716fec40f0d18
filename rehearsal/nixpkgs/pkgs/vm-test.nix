# A test of virtual machines: they are evaluated, and its script is Python; nothing is booted, without QEMU.
{
  build,
  lib,
  packages,
  system,
}:
test:
let
  inherit (lib) mkOption types;
  evaluated = lib.evaluate {
    modules = [
      { inherit options; }
      test
    ];
    arguments.pkgs = packages;
  };
  # A function equals nothing, so definitions of one do not merge.
  module = types.unspecified // {
    merge = _: definitions: (builtins.head definitions).value;
  };
  options = {
    name = mkOption { type = types.str; };
    nodes = mkOption { type = types.attrsOf module; };
    node.specialArgs = mkOption {
      type = types.attrsOf types.unspecified;
      default = { };
    };
    testScript = mkOption { type = types.str; };
  };
  nixosSystem = import ../nixos.nix {
    inherit lib;
    packages = _: packages;
  };
  machine =
    node:
    (nixosSystem {
      inherit system;
      inherit (evaluated.config.node) specialArgs;
      modules = [
        node
        { system.stateVersion = lib.mkDefault "26.05"; }
      ];
    }).config.system.build.toplevel;
in
build {
  pname = "vm-test-run-${evaluated.config.name}";
  machines = lib.mapAttrsToList (_: machine) evaluated.config.nodes;
  inherit (evaluated.config) testScript;
  passAsFile = [ "testScript" ];
  builder = ./builders/vm-test.sh;
}
