# Tailscale's relays as its own clients contain them, for when they cannot reach the control server.
{
  python3,
  runCommand,
  tailscale,
}:
runCommand "derp.yaml" { nativeBuildInputs = [ python3 ]; } ''
  python3 ${./derp-map.py} < ${tailscale.src}/net/dnsfallback/dns-fallback-servers.json > $out
''
