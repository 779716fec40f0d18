#!/bin/sh
# Prints what this host knows of its deploys, and what it serves; changes nothing.
# stdout: {"confirmedDigest": "...", "confirmedToken": "...", "deploysBegun": 3, "seenFrom": "203.0.113.7",
# "names": {"headscaleName": "headscale.example.org", "formerHeadscaleNames": [], "uiName": "...", "baseDomain": "..."},
# "devices": {"headscale.example.org": 2}, "policyDigest": "..."}, where `seenFrom` is the address that asks, `names` are
# those that are served, `devices` says how many are connected by which of them, and `policyDigest` is the SHA-256 of the
# policy with its tests.
set -eu
state=/var/lib/deployment
names=/etc/deployment/names.json

confirmed() {
  jq -r ".$1 // empty" "$state/confirmed.json" 2>/dev/null || true
}

served() {
  cat "$names" 2>/dev/null || echo '{}'
}

# NGINX hands each name's devices on from an address of its own: headscale.nix.
devices() {
  served | jq -r '.addresses // {} | to_entries[] | "\(.key) \(.value)"' | while read -r name address; do
    connections=$(ss -Hnt state established src "$address" | wc -l)
    jq -n --arg name "$name" --argjson connections "$connections" '{($name): $connections}'
  done | jq -s 'add // {}'
}

policy_digest() {
  sha256sum 2>/dev/null </etc/headscale/policy-with-tests.hujson | cut -d ' ' -f 1
}

main() {
  begun=$(cat "$state/begun" 2>/dev/null || echo 0)
  jq -n --arg digest "$(confirmed digest)" --arg token "$(confirmed token)" --argjson begun "$begun" \
    --arg seen_from "${SSH_CONNECTION%% *}" \
    --argjson names "$(served)" --argjson devices "$(devices)" --arg policy "$(policy_digest)" \
    '{confirmedDigest: $digest, confirmedToken: $token, deploysBegun: $begun, seenFrom: $seen_from,
      names: $names, devices: $devices, policyDigest: $policy}'
}

main "$@" </dev/null
