#!/bin/sh
# Confirms the activation that waits, over a connection made after it: it becomes a generation and the boot default. What
# was confirmed before is only printed: the answer of that time may have been lost.
# stdin: the request that deploy.sh had. stdout: {"generation": 3}
set -eu
umask 077
state=/var/lib/deployment

not_kept() {
  echo "confirm: the server went back to what it ran before: $(cat "$state/reason" 2>/dev/null || echo "$1")" >&2
  exit 1
}

confirmed() {
  [ "$(jq -cS '{digest, token}' "$state/confirmed.json" 2>/dev/null)" = "$request" ]
}

confirm() {
  systemctl is-active --quiet "$unit" || not_kept "$unit does not wait to be confirmed; run \`pulumi up\` again"
  printf '%s\n' "$request" >"$state/confirmation.json.new"
  mv "$state/confirmation.json.new" "$state/confirmation.json"
  timeout 600 sh -c "while systemctl is-active --quiet '$unit'; do sleep 0.1; done"
  confirmed || not_kept "$unit has failed"
}

main() {
  request=$(jq -cS '{digest, token}')
  unit=deploy-$(printf '%s' "$request" | jq -r '.digest[:12]').service
  confirmed || confirm
  jq '{generation}' "$state/confirmed.json"
}

main "$@"
