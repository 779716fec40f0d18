#!/usr/bin/env bash
# kill_at_line.sh LINE SCRIPT ARGUMENT...: runs a POSIX script that is killed before it executes LINE for the first time.
# With LINE 0 it comes to its end; /run/lines has the lines that it came by.
set -o posix -o functrace
deadly=$1
script=$2
shift 2
: >/run/lines

before() {
  [ "${BASH_SOURCE[1]}" = "$script" ] || return 0
  [ "$deadly" != 0 ] || echo "$1" >>/run/lines
  # Also in a subshell $$ is the script.
  [ "$deadly" != "$1" ] || kill -9 $$
}
trap 'before "$LINENO"' DEBUG
# shellcheck source=/dev/null
. "$script" "$@"
