#!/bin/sh
# Stands in for gh: notes how it is called and with which body, and knows one open issue, $ISSUE.
set -eu
echo "$*" >>"$LOG"
case "$1 $2" in
"issue list") echo "${ISSUE:-}" ;;
"pr create") [ -z "${REQUEST:-}" ] ;;
esac
