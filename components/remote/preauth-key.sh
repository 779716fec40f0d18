#!/bin/sh
# Creates the user if there is none of this exact name, and a new pre-auth key; the user's former key from here expires.
# stdin: {"user": "admin", "expiration": "24h", "reusable": true, ...}
# stdout: {"key": "hskey-auth-...", "expiresAt": "2026-01-01T00:00:00Z"}
set -eu
umask 077
state=/var/lib/headscale-bootstrap

user_id() {
  headscale users list --output json | jq --arg name "$user" '(. // []) | map(select(.name == $name))[0].id // empty'
}

main() {
  request=$(cat)
  user=$(printf '%s' "$request" | jq -r .user)
  [ -n "$(user_id)" ] || headscale users create "$user" --output json >/dev/null
  reusable=$(printf '%s' "$request" | jq -r .reusable)
  key=$(headscale preauthkeys create --user "$(user_id)" --reusable="$reusable" \
    --expiration "$(printf '%s' "$request" | jq -r .expiration)" --output json)
  mkdir -p "$state"
  [ ! -e "$state/$user" ] || headscale preauthkeys expire --id "$(cat "$state/$user")" >/dev/null
  printf '%s' "$key" | jq -r .id >"$state/$user"
  printf '%s' "$key" | jq '{key, expiresAt: (.expiration.seconds | todate)}'
}

main "$@"
