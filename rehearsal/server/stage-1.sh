#!/bin/sh
# stage-1.sh ROOT COMMANDS: what the scripted stage 1 of NixOS does to a root file system when it has mounted it. For
# NIXOS_LUSTRATE everything moves to /old-root, but /nix, /boot and what is hidden, and what the list names is copied back;
# then come the system's own commands, from a file.
umask 022
targetRoot=$1

lustrate() {
  echo "stage 1: lustrating the root file system"
  mkdir -p "$targetRoot/old-root.tmp"
  for path in "$targetRoot"/*; do
    case ${path##*/} in
    nix | boot | old-root.tmp) ;;
    *) mv "$path" "$targetRoot/old-root.tmp" ;;
    esac
  done
  mv "$targetRoot/old-root.tmp" "$targetRoot/old-root"
  mkdir -p "$targetRoot/etc"
  touch "$targetRoot/etc/NIXOS"
  # A last line without its newline is not read: the real stage 1 has the same loop.
  while read -r keeper; do
    mkdir -p "$targetRoot/$(dirname "$keeper")"
    cp -av "$targetRoot/old-root/$keeper" "$targetRoot/$keeper"
  done <"$targetRoot/old-root/etc/NIXOS_LUSTRATE"
}

[ ! -f "$targetRoot/etc/NIXOS_LUSTRATE" ] || lustrate
# shellcheck source=/dev/null
. "$2"
mkdir -p "$targetRoot/proc" "$targetRoot/sys" "$targetRoot/dev" "$targetRoot/run"
