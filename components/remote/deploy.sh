#!/bin/sh
# Activates what push.sh brought, in a unit of its own that outlives this connection, and shows its progress.
# stdin: {"digest": "...", "token": "..."}. The boot default stays what it was until confirm.sh has come back.
set -eu
umask 077
state=/var/lib/deployment

main() {
  mkdir -p "$state"
  request=$(cat)
  digest=$(printf '%s' "$request" | jq -r .digest)
  found=$(cd /etc/nixos && find . -type f | LC_ALL=C sort | xargs sha256sum | sha256sum | cut -d ' ' -f 1)
  [ "$found" = "$digest" ] || {
    echo "deploy: /etc/nixos holds $found, not $digest: changed since the push; run \`pulumi up\` again" >&2
    exit 64
  }
  begun=$(($(cat "$state/begun" 2>/dev/null || echo 0) + 1))
  echo "$begun" >"$state/begun.new"
  mv "$state/begun.new" "$state/begun"
  rm -f "$state/pending.json"
  printf '%s\n' "$request" >"$state/request.json"
  run "deploy-$begun" "$state/deploy-$begun.log"
}

# Compiling must not starve what serves meanwhile: root builds in this unit, not in nix-daemon's.
run() {
  : >"$2"
  systemd-run --quiet --wait --collect --unit "$1" \
    --property CPUWeight=20 --property IOWeight=20 --property OOMScoreAdjust=500 \
    --setenv PATH="$PATH" --setenv HOME=/root --property StandardOutput="append:$2" --property StandardError="append:$2" \
    sh /etc/nixos/remote/activate.sh &
  unit=$!
  # Lines of 64 KiB and more stop pulumi-command's log for ever.
  tail -n +1 -f -s 0.1 --pid "$unit" "$2" | cut -c -500
  wait "$unit" || {
    echo "deploy: the activation failed; the boot default is unchanged, the log is $2 on the server" >&2
    exit 1
  }
}

main "$@"
