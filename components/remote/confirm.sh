#!/bin/sh
# Confirms the activation that waits, over a connection made after it: it becomes a generation and the boot default.
# stdin: the request that deploy.sh had. stdout: {"generation": 3}
set -eu
state=/var/lib/deployment
profile=/nix/var/nix/profiles/system

main() {
  wanted=$(jq -cS '{digest, token}')
  waiting=$(jq -cS '{digest, token}' "$state/pending.json" 2>/dev/null || echo nothing)
  [ "$wanted" = "$waiting" ] || {
    echo "confirm: $wanted was to be confirmed, but $waiting waits; run \`pulumi up\` again" >&2
    exit 64
  }
  system=$(jq -r .system "$state/pending.json")
  [ "$(readlink -f /run/current-system)" = "$system" ] || {
    echo "confirm: the server runs $(readlink -f /run/current-system), not $system; run \`pulumi up\` again" >&2
    exit 64
  }
  nix-env -p "$profile" --set "$system"
  "$system/bin/switch-to-configuration" boot >&2
  mv "$state/pending.json" "$state/confirmed.json"
  # Debian's remains hold cloud-init's copy of the SSH host key.
  rm -rf --one-file-system /old-root
  readlink "$profile" | sed 's/^system-\([0-9]*\)-link$/{"generation": \1}/'
}

main "$@"
