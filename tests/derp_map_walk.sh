#!/bin/bash
# Runs in the image: headscale serves with /headscale.json, and the DERP map $1 is replaced by stdin while it does.
# Prints the numbers of the regions that it has before, and once they are others.
set -eu
regions() { curl -s -H 'Accept: application/json' http://127.0.0.1:9090/debug/derp | jq -r '[.regions[].region_id] | sort | join(" ")'; }

headscale serve --config /headscale.json >/var/log/headscale-serve.log 2>&1 &
trap 'kill %1' EXIT
deadline=$((SECONDS + 20))
until before=$(regions) && [ -n "$before" ]; do
  [ "$SECONDS" -lt "$deadline" ] || { cat /var/log/headscale-serve.log >&2; exit 1; }
  sleep 0.1
done
echo "$before"
cat >"$1.new"
mv "$1.new" "$1"
until after=$(regions) && [ "$after" != "$before" ]; do
  [ "$SECONDS" -lt "$deadline" ] || { cat /var/log/headscale-serve.log >&2; exit 1; }
  sleep 0.1
done
echo "$after"
