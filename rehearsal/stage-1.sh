#!/bin/sh
# Runs chrooted into a server's disk: everything goes below /old-root, but /nix, /boot, what is hidden, and here also
# /usr with its links and the mount points of a container. Then it comes back what /etc/NIXOS_LUSTRATE names.
set -u
umask 022
export PATH=/usr/bin:/usr/sbin

echo "stage 1: lustrating the root file system"
mkdir -m 0755 /old-root.tmp
for path in /*; do
	case ${path#/} in
	old-root.tmp | nix | boot | usr | bin | sbin | lib | lib32 | lib64 | libx32 | dev | proc | run | sys) ;;
	*) mv "$path" /old-root.tmp/ ;;
	esac
done
mv /old-root.tmp /old-root
mkdir -m 0755 /etc /var /root /home /srv
mkdir -m 1777 /tmp
: >/etc/NIXOS

# A last line without its newline is not read: the real stage 1 has the same loop.
while read -r keeper; do
	[ -n "$keeper" ] || continue
	mkdir -p "$(dirname "/$keeper")"
	cp -av "/old-root/$keeper" "/$keeper"
done </old-root/etc/NIXOS_LUSTRATE
exit 0
