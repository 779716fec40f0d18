#!/bin/sh
# Makes of mmdebstrap's tree ($1) what a Debian 13 server is before its first boot, with the rehearsal's programs put away.
set -eu

root=$1
away=$root/usr/lib/rehearsal

# A Hetzner server has no nix: the stand-in apt-get "installs" it, and the realised NixOS reaches it through a wrapper.
mkdir -p "$away/libexec" "$away/debian"
mv "$root/usr/bin/nix" "$away/libexec/nix"
for command in "$root"/usr/bin/nix-*; do
	ln -s nix "$away/libexec/${command##*/}"
	rm "$command"
done

# Debian enables what it installs; of these a fresh Hetzner server runs none.
chroot "$root" systemctl --quiet disable nginx.service nftables.service systemd-resolved.service \
	fail2ban.service apparmor.service auditd.service audit-rules.service
chroot "$root" systemctl --quiet enable systemd-networkd.service
chroot "$root" systemctl --quiet mask systemd-networkd-wait-online.service

# Which programs a package holds: /var, where dpkg knows it, does not outlive the conversion.
for list in "$root"/var/lib/dpkg/info/*.list; do
	package=${list##*/}
	package=${package%.list}
	sed -nE 's,^(/usr)?/(s?bin/[^/]+)$,/usr/\2,p' "$list" | sort -u >"$away/debian/${package%:*}"
done
find "$away/debian" -empty -delete

# Nothing of a machine's own identity may come from the image.
: >"$root/etc/machine-id"
rm -f "$root"/etc/ssh/ssh_host_* "$root/etc/resolv.conf" "$root/etc/hostname" "$root/var/lib/dbus/machine-id"
rm -rf "$root/var/lib/cloud" "$root/nix"

# After the conversion /etc is NixOS's own; what Debian's programs need of theirs is taken from this copy.
cp -a "$root/etc" "$away/etc"
