# nixpkgs 26.05 has 0.28, against which Tailscale's app for Android crashes.
{
  buildGo126Module,
  fetchFromGitHub,
  lib,
  python3,
}:
let
  pin = (lib.importJSON ./pins.json).headscale;
in
buildGo126Module {
  pname = "headscale";
  inherit (pin) version vendorHash;

  src = fetchFromGitHub {
    owner = "juanfont";
    repo = "headscale";
    tag = "v${pin.version}";
    inherit (pin) hash;
  };

  # The program reads its version from Git's stamp, which a build from an archive has not.
  postPatch = ''
    substituteInPlace hscontrol/types/version.go --replace-fail '"dev"' '"v${pin.version}"'
  '';
  subPackages = [ "cmd/headscale" ];
  # The tests start databases.
  doCheck = false;

  nativeBuildInputs = [ python3 ];
  postInstall = ''
    mkdir -p $out/share/headscale
    python3 ${./derp-map.py} < vendor/tailscale.com/net/dnsfallback/dns-fallback-servers.json \
      > $out/share/headscale/derp.yaml
  '';

  meta.mainProgram = "headscale";
}
