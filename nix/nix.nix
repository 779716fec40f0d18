{
  nix.settings = {
    experimental-features = [
      "nix-command"
      "flakes"
    ];
    auto-optimise-store = true;
    # The flake pins its inputs; there is nothing to look up elsewhere.
    flake-registry = "";
  };
  nix.channel.enable = false;
}
