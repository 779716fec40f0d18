#!/bin/sh
# Makes of mmdebstrap's tree ($1) a Debian 13 that a virtual machine boots, with the stand-in for a NixOS put away in it.
set -eu
root=$1
here=$(dirname "$0")
cp -a "$here/qemu_disk/." "$root"
cp "$here/../rehearsal/server/stage-1.sh" "$here/../nix/finish-lustration.sh" "$root/usr/local/lib/stage-1/scripts"
chown -R 0:0 "$root/usr/local" "$root/etc/systemd/system" "$root/etc/default"
echo '/dev/sda1 / ext4 errors=remount-ro 0 1' >"$root/etc/fstab"
mkdir "$root/boot/efi"
chroot "$root" systemctl --quiet enable agent.service

# Nobody logs in at a terminal, and under emulation each unit takes its time.
chroot "$root" systemctl --quiet mask getty.target getty-static.service serial-getty@ttyS0.service e2scrub_reap.service

# What is not in the initial ramdisk need not be unpacked.
cp "$root/usr/local/lib/stage-1/initramfs.conf" "$root/usr/local/lib/stage-1/modules" "$root/etc/initramfs-tools"
chroot "$root" update-initramfs -u

# The system that "nix" builds: Debian's kernel, and an initial ramdisk that knows NIXOS_LUSTRATE, as Debian's own does not.
system=$root/usr/local/lib/system
cp "$root"/boot/vmlinuz-* "$system/kernel"
cp "$root/usr/bin/busybox" "$root/usr/local/bin/agent" "$system"
kernel=$(basename "$root"/boot/vmlinuz-*)
chroot "$root" mkinitramfs -d /usr/local/lib/stage-1 -o /usr/local/lib/system/initrd "${kernel#vmlinuz-}"
