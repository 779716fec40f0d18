#!/bin/sh
# Stands before a program of the same name, whose directory REAL names: writes down how it is called.
# Where KILL is in the arguments, what called it is killed first, and the program, a slow one, does its work all the same.
set -eu
{
  printf '%s\n' "${0##*/} $*"
  env
} >>"$LOG"
case " $* " in
*" ${KILL:-nobody} "*)
  kill -9 "$PPID"
  sleep 3
  ;;
esac
exec "$REAL/${0##*/}" "$@"
