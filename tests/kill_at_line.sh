#!/bin/bash
# kill_at_line.sh LINE SCRIPT ARGUMENT...: runs a POSIX script that is killed, with all it has started, before LINE.
# LINE 0 lets it end, and writes each line that it came by to /run/lines.
set -o posix -o functrace
deadly=$1
shift
: >/run/lines

# BASHPID would be a subshell's; the death of $$ ends the namespace, and so what the subshells do.
# shellcheck disable=SC2064,SC2154
trap '[ "${BASH_SOURCE[0]}" != "$script" ] || {
  [ "$deadly" != 0 ] || echo "$LINENO" >>/run/lines
  [ "$LINENO" != "$deadly" ] || kill -9 $$
}' DEBUG
script=$1
shift
# shellcheck source=/dev/null
. "$script" "$@"
