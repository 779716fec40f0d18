# nixpkgs has no headscale-ui. The release is built for the base path /web, and so are its asset URLs.
{
  fetchzip,
  python3,
  runCommand,
}:
let
  version = "2026.03.17";
  release = fetchzip {
    url = "https://github.com/gurucomputing/headscale-ui/releases/download/${version}/headscale-ui.zip";
    hash = "sha256-+PgogmoY/lEo4cHN3Taf69xAnz7v/E6hsvHsoq+kX4M=";
    stripRoot = false;
  };
in
runCommand "headscale-ui-${version}" { nativeBuildInputs = [ python3 ]; } ''
  mkdir $out
  cp -r ${release}/web $out/web
  python3 ${./content-security-policy.py} $out/web > $out/csp.conf
''
