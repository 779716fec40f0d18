#!/bin/sh
# in-image.sh LOWER DISK COMMAND...: runs a command in a server's image, unbooted, with a network of its own that ends at `lo`.
# What it writes stays in DISK; mounts and processes end with it.
set -eu
lower=$1
disk=$2
shift 2
root=$disk/root
mkdir -p "$disk/upper" "$disk/work" "$root"
mount -t overlay -o "lowerdir=$lower,upperdir=$disk/upper,workdir=$disk/work" overlay "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
ip link set lo up
exec env -i PATH=/usr/lib/rehearsal/bin:/usr/sbin:/usr/bin HOME=/root \
  NIX_CONFIG='experimental-features = nix-command flakes' chroot "$root" "$@"
