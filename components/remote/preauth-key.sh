#!/bin/sh
# Creates the user unless one has this exact name, and a new pre-auth key; the former key that this script made for the user
# expires. Users that came by OpenID Connect may have the same name; those have a provider.
# stdin: {"user": "admin", "expiration": "24h", "reusable": true, "ephemeral": false, "tags": [], "reason": "...", ...}
# stdout: {"key": "hskey-auth-...", "expiresAt": "2026-01-01T00:00:00Z"}
# A run that is cut off before its record is written leaves a key that is in no output; the next run makes another.
# headscale 0.29 writes ids as numbers and times as seconds, 0.30 ids as strings and times as RFC 3339.
set -eu
umask 077
state=/var/lib/headscale-bootstrap

field() {
  printf '%s' "$request" | jq -r "$1"
}

user_id() {
  headscale users list --output json | jq -r --arg name "$user" '(. // []) | map(select(.name == $name and (.provider // "") == ""))[0].id // empty'
}

main() {
  request=$(cat)
  user=$(field .user)
  record=$state/$user
  [ -n "$(user_id)" ] || headscale users create "$user" --output json >/dev/null
  key=$(headscale preauthkeys create --user "$(user_id)" --output json --expiration "$(field .expiration)" \
    --reusable="$(field .reusable)" --ephemeral="$(field .ephemeral)" --tags "$(field '.tags | join(",")')")
  [ ! -e "$record" ] || headscale preauthkeys expire --id "$(jq .key "$record")" >/dev/null
  mkdir -p "$state"
  key=$(printf '%s' "$key" | jq '.id |= tonumber |
    .expiration |= if type == "string" then sub("[.][0-9]+"; "") | fromdate else .seconds end')
  printf '%s' "$key" | jq --arg reason "$(field .reason)" \
    '{key: .id, expires: .expiration, reason: $reason}' >"$state/.$user"
  mv "$state/.$user" "$record"
  printf '%s' "$key" | jq '{key, expiresAt: (.expiration | todate)}'
}

main "$@"
