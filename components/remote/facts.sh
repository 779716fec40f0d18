#!/bin/sh
# Says what this host knows of its deploys; changes nothing.
# stdout: {"confirmedDigest": "...", "confirmedToken": "...", "deploysBegun": 3, "differs": "", "seenFrom": "203.0.113.7",
# "machine": "x86_64"}, where `differs` names what has changed since the last deploy, and `seenFrom` is the address
# that asks.
set -eu
state=/var/lib/deployment

confirmed() {
  jq -r ".$1 // empty" "$state/confirmed.json" 2>/dev/null || true
}

differs() {
  system=$(confirmed system)
  [ -n "$system" ] || return 0
  [ "$(readlink -f /run/current-system)" = "$system" ] || echo "the server runs another system"
  [ "$(readlink -f /nix/var/nix/profiles/system)" = "$system" ] || echo "the server would boot another system"
  [ "$(sh /etc/nixos/remote/digest.sh)" = "$(confirmed digest)" ] || echo "/etc/nixos is not what was deployed"
}

main() {
  begun=$(cat "$state/begun" 2>/dev/null || echo 0)
  jq -n --arg digest "$(confirmed digest)" --arg token "$(confirmed token)" --argjson begun "$begun" \
    --arg differs "$(differs | head -n 1)" --arg seen_from "${SSH_CONNECTION%% *}" --arg machine "$(uname -m)" \
    '{confirmedDigest: $digest, confirmedToken: $token, deploysBegun: $begun, differs: $differs, seenFrom: $seen_from,
      machine: $machine}'
}

main "$@" </dev/null
