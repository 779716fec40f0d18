#!/bin/sh
# power-cut.sh STEP STAGE_1 ROOT COMMANDS: runs stage 1, and the power fails before STEP, counted from 1; 0 is none. A
# step is a command that changes the disk; a copy is two, and the second is in its middle. When the power fails, files that
# were copied since the last `sync` are empty. ROOT.steps counts the steps; ROOT.unwritten has what no `sync` has followed.
deadly=$1
stage_1=$2
shift 2
steps=$1.steps
unwritten=$1.unwritten
echo 0 >"$steps"
: >"$unwritten"

step() {
  read -r count <"$steps"
  count=$((count + 1))
  echo "$count" >"$steps"
  if [ "$count" = "$deadly" ]; then
    "$@"
    lose_power
  fi
}

lose_power() {
  while read -r path; do
    find "$path" -type f 2>/dev/null | while read -r file; do
      command rm -f "$file"
      : >"$file"
    done
  done <"$unwritten"
  kill -9 0
}

begin_copy() {
  if [ -d "$2" ]; then
    command mkdir "$3"
  else
    : >"$3"
  fi
}

mkdir() {
  step
  command mkdir "$@"
}

mv() {
  step
  command mv "$@"
}

touch() {
  step
  command touch "$@"
}

rm() {
  step
  command rm "$@"
  echo "rm $*" >>"$unwritten"
}

cp() {
  step
  step begin_copy "$@"
  command cp "$@"
  realpath "$3" >>"$unwritten"
}

sync() {
  step
  : >"$unwritten"
}

# shellcheck source=/dev/null
. "$stage_1"
