# The pinned version of headscale: a compiled package that has it, otherwise a build from source. nixpkgs 26.05 has
# 0.28, against which Tailscale's app for Android crashes.
{
  buildGo126Module,
  compiled ? [ ],
  fetchFromGitHub,
  lib,
}:
let
  pin = (lib.importJSON ./pins.json).headscale;
  built = buildGo126Module {
    pname = "headscale";
    inherit (pin) version vendorHash;

    src = fetchFromGitHub {
      owner = "juanfont";
      repo = "headscale";
      tag = "v${pin.version}";
      inherit (pin) hash;
    };

    # The program reads its version from Git's stamp, which a build from an archive lacks.
    postPatch = ''
      substituteInPlace hscontrol/types/version.go --replace-fail '"dev"' '"v${pin.version}"'
    '';
    subPackages = [ "cmd/headscale" ];
    # The tests start databases.
    doCheck = false;

    meta.mainProgram = "headscale";
  };
in
lib.findFirst (package: package.version == pin.version) built compiled
