#!/bin/sh
# Installs Debian's boot loader as its cloud images have it: for BIOS, and for EFI with shim's fallback beside it.
set -eu
mkfs.vfat /dev/sda15
echo '/dev/sda15 /boot/efi vfat umask=0077 0 1' >>/etc/fstab
mount /boot/efi
grub-install --target=i386-pc /dev/sda
grub-install --target=x86_64-efi --no-nvram --force-extra-removable
echo "Stands for shim's fallback." >/boot/efi/EFI/BOOT/fbx64.efi
update-grub
sync
