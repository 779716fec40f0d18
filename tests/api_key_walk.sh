#!/bin/bash
# Runs in the image: headscale serves, and the program $1 registers the keys of stdin, one a line, one after the other.
# Prints, after each: the status that each key has got by then.
set -eu
register=$1
export CREDENTIALS_DIRECTORY=/run/credentials STATE_DIRECTORY=/var/lib/headscale
export DATABASE=/var/lib/headscale/db.sqlite API=http://127.0.0.1:8085
mkdir -p "$CREDENTIALS_DIRECTORY" "$STATE_DIRECTORY" /run/headscale
headscale serve >/var/log/headscale-serve.log 2>&1 &
trap 'kill %1' EXIT

mapfile -t keys
for key in "${keys[@]}"; do
  printf '%s' "$key" >"$CREDENTIALS_DIRECTORY/api-key"
  "$register" >&2
  for each in "${keys[@]}"; do
    curl -s -o /dev/null -w '%{http_code} ' -H @- "$API/api/v1/user" <<<"Authorization: Bearer $each"
  done
  echo
done
