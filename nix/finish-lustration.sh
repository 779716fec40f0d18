#!/bin/sh
# Part of the bootstrap system's stage 1, after it has lustrated the root file system at $targetRoot for NIXOS_LUSTRATE:
# does what a power cut has left of that to do, and writes to the disk what was kept. Nothing of NixOS runs from the disk
# before, so that what is not in /old-root.tmp yet is Debian's, and what was copied can be copied again.

move_the_rest() {
  echo "finishing the lustration that was cut off"
  for entry in *; do
    case $entry in
    nix | boot | old-root.tmp) ;;
    *) mv "$entry" old-root.tmp ;;
    esac
  done
  mv old-root.tmp old-root
}

# A file that was copied just before the power failed may be empty.
keep() {
  mkdir -p "$(dirname "$1")"
  rm -rf "$1"
  cp -a "old-root/$1" "$1"
}

(
  cd "${targetRoot:?}" || exit
  [ ! -d old-root.tmp ] || move_the_rest
  [ -e old-root/etc/NIXOS_LUSTRATE ] || exit
  while read -r path; do
    keep "$path"
  done <old-root/etc/NIXOS_LUSTRATE
  sync
  rm old-root/etc/NIXOS_LUSTRATE
  sync
)
