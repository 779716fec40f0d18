# nixpkgs lacks headscale-ui. The release is built for the base path /web, and so are its asset URLs.
{
  fetchzip,
  lib,
  python3,
  runCommand,
}:
let
  pin = (lib.importJSON ./pins.json).headscale-ui;
in
runCommand "headscale-ui-${pin.version}"
  {
    nativeBuildInputs = [ python3 ];
    src = fetchzip {
      url = "https://github.com/gurucomputing/headscale-ui/releases/download/${pin.version}/headscale-ui.zip";
      inherit (pin) hash;
      stripRoot = false;
    };
  }
  ''
    mkdir $out
    cp -r $src/web $out/web
    python3 ${./content-security-policy.py} $out/web > $out/csp.conf
  ''
