#!/usr/bin/env bash
# Carries out `pulumi up` of $STACK without its words, which hold addresses and users, and then tells what still differs.
set -u
pulumi up --yes --skip-preview --non-interactive --stack "$STACK" >/dev/null 2>&1
status=$?
"$(dirname "$0")/compare.sh"
[ "$status" = 0 ] || {
  echo "\`pulumi up\` ended with $status; at home it says why, and the server is as it was confirmed last"
  exit 1
}
