#!/bin/sh
# Stand-in: there is no disk to write to. Looks at how it is called, and leaves the files that the real one leaves.
set -eu

fail() {
	echo "grub-install: $*" >&2
	exit 1
}

device='' target='' efi='' removable=no
for argument; do
	case $argument in
	--recheck | --boot-directory=/boot | --no-nvram) ;;
	--target=*) target=${argument#*=} ;;
	--efi-directory=*) efi=${argument#*=} ;;
	--removable) removable=yes ;;
	--*) fail "not called as NixOS calls it: $argument" ;;
	*) device=$argument ;;
	esac
done

case $target in
i386-pc)
	[ "$device" = /dev/sda ] || fail "the disk is /dev/sda, not '$device'"
	mkdir -p /boot/grub/i386-pc
	echo "stand-in" >/boot/grub/i386-pc/core.img
	;;
x86_64-efi | arm64-efi)
	[ -d "$efi" ] || fail "'$efi' is no EFI directory"
	[ "$removable" = yes ] || fail "a boot entry in the firmware cannot be made in a container: --removable is missing"
	mkdir -p "$efi/EFI/BOOT"
	case $target in
	x86_64-efi) echo "stand-in" >"$efi/EFI/BOOT/BOOTX64.EFI" ;;
	arm64-efi) echo "stand-in" >"$efi/EFI/BOOT/BOOTAA64.EFI" ;;
	esac
	;;
*) fail "no such target: '$target'" ;;
esac
