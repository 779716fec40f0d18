#!/bin/sh
# Expires the pre-auth keys of users that this stack made and no longer names; users and nodes stay.
# stdin: {"users": ["admin", ...], ...}
set -eu
state=/var/lib/headscale-bootstrap

retire() {
  headscale preauthkeys expire --id "$(jq .key "$state/$1")" >/dev/null
  rm "$state/$1"
  echo "$1 is no longer a user of this stack: its pre-auth key is expired, its nodes stay"
}

main() {
  named=$(jq -r '.users[]')
  for record in "$state"/*; do
    user=${record##*/}
    [ ! -e "$record" ] || printf '%s\n' "$named" | grep -qxF "$user" || retire "$user"
  done
}

main "$@"
