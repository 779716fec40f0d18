#!/bin/sh
# Prints the facts of this host as one JSON; changes nothing. The facts key may run this and nothing else: nix/ssh.nix.
# stdout: what facts.sh and drift.sh print, and {"users": ...} as of user-facts.sh.
set -u
here=$(dirname "$0")

main() {
  {
    sh "$here/facts.sh"
    sh "$here/drift.sh"
    sh "$here/user-facts.sh" | jq '{users: .}'
  } | jq -s add
}

main </dev/null
