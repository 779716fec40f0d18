#!/bin/sh
# Creates the user if there is none of this exact name, and a new pre-auth key; the user's former key from here expires.
# stdin: {"user": "admin", "expiration": "24h", "reusable": true, "ephemeral": false, "tags": [], "reason": "...", ...}
# stdout: {"key": "hskey-auth-...", "expiresAt": "2026-01-01T00:00:00Z"}
# Cut off before its record is written, a run leaves a key that nobody was told, and the next run makes another.
set -eu
umask 077
state=/var/lib/headscale-bootstrap

wanted() {
  printf '%s' "$request" | jq -r "$1"
}

user_id() {
  headscale users list --output json | jq --arg name "$user" '(. // []) | map(select(.name == $name))[0].id // empty'
}

main() {
  request=$(cat)
  user=$(wanted .user)
  record=$state/$user
  [ -n "$(user_id)" ] || headscale users create "$user" --output json >/dev/null
  made=$(headscale preauthkeys create --user "$(user_id)" --output json --expiration "$(wanted .expiration)" \
    --reusable="$(wanted .reusable)" --ephemeral="$(wanted .ephemeral)" --tags "$(wanted '.tags | join(",")')")
  [ ! -e "$record" ] || headscale preauthkeys expire --id "$(jq .key "$record")" >/dev/null
  mkdir -p "$state"
  printf '%s' "$made" | jq --arg reason "$(wanted .reason)" \
    '{key: .id, expires: .expiration.seconds, reason: $reason}' >"$state/.$user"
  mv "$state/.$user" "$record"
  printf '%s' "$made" | jq '{key, expiresAt: (.expiration.seconds | todate)}'
}

main "$@"
