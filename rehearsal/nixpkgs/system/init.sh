#!/bin/sh
# Stage 2 of a container: there is nothing to mount. The system ($1) is activated, then systemd takes over.
set -eu

export PATH="/usr/bin:/usr/sbin"
system=$1

install -d -m 1777 /tmp
mkdir -p /run /var/log /nix/var/nix/gcroots
ln -sfn "$system" /run/booted-system
ln -sfn /run/booted-system /nix/var/nix/gcroots/booted-system
[ -e /etc/machine-id ] || touch /etc/machine-id
"$system/activate"
export PATH=/run/current-system/sw/bin
exec /usr/lib/systemd/systemd
