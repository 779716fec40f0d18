#!/bin/sh
# Asks the running headscale for its verdict on a policy, tests included; writes nothing.
# judge-policy.sh FILE: status 0 where headscale accepts it, 1 where it refuses it, 2 where something that it names does not
# exist yet, 3 where headscale gives no verdict. stdout: headscale's words.
set -u
export HEADSCALE_CLI_TIMEOUT=8s

verdict() {
  timeout 10 headscale policy check --file "$1" 2>&1
}

# Of several errors each has a line of its own, below a heading.
lines() {
  printf '%s\n' "$1" | sed -n '/^Error: /,$p' | sed 's/^Error: //; s/^[[:space:]]*//' | grep -v '^$'
}

main() {
  words=$(verdict "$1") && return
  lines "$words"
  printf '%s\n' "$words" | grep -Eq 'parsing policy|test\(s\) failed|compiling' || return 3
  lines "$words" | grep -Ev 'test\(s\) failed:?$|user not found|resolved to no IP addresses' | grep -q . || return 2
  return 1
}

main "$@"
