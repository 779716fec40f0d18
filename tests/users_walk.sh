#!/bin/bash
# Runs in the image: headscale serves, and every line of stdin is run as a command. Prints a JSON object for each: its
# status, what it printed, and the users' facts after it.
set -u
mkdir -p /run/headscale
headscale serve >/var/log/headscale-serve.log 2>&1 &
export HEADSCALE=$!
trap 'kill $HEADSCALE 2>/dev/null' EXIT
HEADSCALE_CLI_TIMEOUT=30s headscale health >/dev/null

while IFS= read -r line; do
  printed=$(bash -c "$line" 2>&1 </dev/null)
  jq -cn --argjson status $? --arg printed "$printed" --argjson facts "$(sh /remote/user-facts.sh)" '$ARGS.named'
done
