#!/bin/sh
# usage: device.sh NAME DIRECTORY RESOLVER COMMAND [ARGUMENT ...], in mount and uts namespaces of the device's own:
# tailscaled renames /etc/resolv.conf, and the client looks for its socket in /run/tailscale.
set -eu
name=$1
directory=$2
resolver=$3
shift 3
hostname "$name"
mount -t overlay -o "lowerdir=/etc,upperdir=$directory/upper,workdir=$directory/work" overlay /etc
mount -t tmpfs tmpfs /run/tailscale
echo "nameserver $resolver" >/etc/resolv.conf
exec "$@"
