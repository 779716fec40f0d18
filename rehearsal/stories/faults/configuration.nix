# Takes the place of the product's file, which is its-configuration.nix while a story's modules are laid over it.
{
  imports = [
    ./its-configuration.nix
  ]
  ++ map (name: ./faults + "/${name}") (
    builtins.filter (name: builtins.match ".*\\.nix" name != null) (
      builtins.attrNames (builtins.readDir ./faults)
    )
  );
}
