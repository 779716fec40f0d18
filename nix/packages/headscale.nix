# nixpkgs 26.05 has 0.28, against which Tailscale's app for Android crashes.
{
  buildGo126Module,
  fetchFromGitHub,
  python3,
}:
let
  version = "0.29.3";
in
buildGo126Module {
  pname = "headscale";
  inherit version;

  src = fetchFromGitHub {
    owner = "juanfont";
    repo = "headscale";
    tag = "v${version}";
    hash = "sha256-ddJHSEqZd++JeG3UjUwzw7i45FlZYggUwhEG/tDkq0s=";
  };
  vendorHash = "sha256-fzKyXNMw/2yAEhaTZu0n1NXatPO2IP0HFA2ey1vZIYM=";

  # The program reads its version from Git's stamp, which a build from an archive has not.
  postPatch = ''
    substituteInPlace hscontrol/types/version.go --replace-fail '"dev"' '"v${version}"'
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
