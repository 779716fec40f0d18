#!/bin/sh
# Turns a fresh Debian 13 server of ours into a small NixOS that the first deploy completes: NixOS manual, "Installing
# from another Linux distribution", with the traps met on the way. Run in a bundle with marker and tree.tar.
# Killed at any point, it is run again; a host that is NixOS already is left alone.
set -eu
umask 022
export HOME=/root LC_ALL=C DEBIAN_FRONTEND=noninteractive
work=/run/become-nixos
log=/var/log/become-nixos.log

say() { printf 'become-nixos: %s\n' "$*"; }
fail() {
  say "$*" >&2
  exit 64
}
refuse() { fail "$*; nothing was changed. Only a fresh server becomes NixOS: \`pulumi up --replace\` the server"; }
thrice() { "$@" || "$@" || "$@"; }

check_machine() {
  [ "$ID ${VERSION_ID:-}" = "debian 13" ] || refuse "this is $ID ${VERSION_ID:-}, not the Debian 13 that was ordered"
  cmp -s marker /etc/become-nixos.allow ||
    refuse "/etc/become-nixos.allow does not name this stack's server, so this may be another's"
  [ ! -e /var/lib/headscale ] || refuse "/var/lib/headscale exists: this server is in use"
  tar -x -O -f tree.tar deployment.json | grep -Eq "\"system\": *\"$(uname -m)-linux\"" ||
    refuse "the configuration is not for a machine of type $(uname -m)"
  [ "$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)" -ge 3500 ] || refuse "less than 3.5 GiB of memory"
  [ "$(df --output=avail -B1M / | tail -n 1)" -ge 12288 ] || refuse "less than 12 GiB are free on /"
  check_disk
}

check_disk() {
  for place in / /boot; do
    found=$(findmnt -nro SOURCE,FSTYPE --target "$place")
    [ "$found" = "/dev/sda1 ext4" ] || refuse "$place is on $found, not on /dev/sda1 with ext4"
  done
  [ "$(lsblk -no FSTYPE /dev/sda15)" = vfat ] || refuse "/dev/sda15 is no EFI system partition"
  [ "$(findmnt -no SOURCE /boot/efi || echo /dev/sda15)" = /dev/sda15 ] || refuse "/boot/efi is not /dev/sda15"
  # BIOS boots from here; GRUB calls the type by this number.
  [ "$(uname -m)" != x86_64 ] || [ "$(lsblk -no PARTTYPE /dev/sda14)" = 21686148-6449-6e6f-744e-656564454649 ] ||
    refuse "/dev/sda14 is no BIOS boot partition"
}

# A unit outlives this connection: without it, the next line written to a lost one would end the script in mid-work.
start_or_follow() {
  if [ "$(systemctl is-active become-nixos.service)" = activating ]; then
    say "under way already; this is what it has done so far"
    systemctl start become-nixos.service &
  else
    rm -rf "$work"
    cp -a . "$work"
    : >"$log"
    systemd-run --quiet --collect --unit become-nixos --property Type=oneshot --working-directory "$work" \
      --property StandardOutput="append:$log" --property StandardError="append:$log" sh run.sh convert &
  fi
  unit=$!
  # Lines of 64 KiB and more stop pulumi-command's log for ever.
  tail -n +1 -f -s 0.1 --pid "$unit" "$log" | stdbuf -oL cut -c -500
  wait "$unit" || fail "the conversion failed; $log on the server says why. Mend that and run \`pulumi up\` again"
}

wait_for_first_boot() {
  say "waiting for cloud-init"
  timeout 300 cloud-init status --wait >/dev/null || [ $? = 2 ] || fail "cloud-init has not finished within 300 s"
}

add_swap() {
  [ -e /swapfile ] || {
    fallocate -l 4G /swapfile.new
    chmod 600 /swapfile.new
    mkswap -q /swapfile.new
    mv /swapfile.new /swapfile
  }
  swapon --show=NAME --noheadings | grep -qx /swapfile || swapon /swapfile
}

# With NixOS's own ids, and before nix-bin, which without them fails every build that is not a download.
add_build_users() {
  getent group nixbld >/dev/null || groupadd -g 30000 nixbld
  for n in 1 2 3 4 5 6 7 8; do
    id "nixbld$n" >/dev/null 2>&1 ||
      useradd -u "3000$n" -g nixbld -G nixbld -d /var/empty -M -s /usr/sbin/nologin "nixbld$n"
  done
}

install_nix() {
  say "installing nix"
  # apt waits for dpkg's lock, but not for the lock on its own lists.
  systemctl stop 'apt-daily*'
  # What a kill in mid-installation leaves, apt refuses to mend.
  dpkg --configure -a
  thrice timeout 600 apt-get -q -o DPkg::Lock::Timeout=300 update
  thrice timeout 600 apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends nix-bin ca-certificates
}

unpack_tree() {
  rm -rf /etc/nixos.new
  mkdir -m 0700 /etc/nixos.new
  tar -x -f tree.tar -C /etc/nixos.new
  rm -rf /etc/nixos
  mv -T /etc/nixos.new /etc/nixos
}

# /tmp is a tmpfs of half the memory on Debian 13, too small to build in.
build_bootstrap() {
  say "building the bootstrap system"
  mkdir -p /nix/var/nix/builds
  export NIX_CONFIG='experimental-features = nix-command flakes
max-jobs = auto
build-dir = /nix/var/nix/builds
connect-timeout = 15'
  system=$(thrice timeout 1200 nix build --no-link --print-out-paths --no-update-lock-file --no-write-lock-file \
    path:/etc/nixos#nixosConfigurations.bootstrap.config.system.build.toplevel)
  for part in kernel initrd init bin/switch-to-configuration; do
    [ -e "$system/$part" ] || fail "nix built no system that boots: $system has no $part"
  done
  nix-env -p /nix/var/nix/profiles/system --set "$system"
}

# Stage 1 of the bootstrap system keeps these and moves all else to /old-root. It skips a last line without newline.
list_what_to_keep() {
  for path in etc/nixos etc/ssh/ssh_host_ed25519_key etc/ssh/ssh_host_ed25519_key.pub etc/machine-id; do
    [ -e "/$path" ] || fail "/$path is missing; mend that and run \`pulumi up\` again"
    printf '%s\n' "$path"
  done >/etc/NIXOS_LUSTRATE.new
  mv /etc/NIXOS_LUSTRATE.new /etc/NIXOS_LUSTRATE
  # switch-to-configuration takes nothing else for a NixOS.
  touch /etc/NIXOS
}

install_boot_loader() {
  mkdir -p /boot/efi
  findmnt -no SOURCE /boot/efi >/dev/null || mount /dev/sda15 /boot/efi
  NIXOS_INSTALL_BOOTLOADER=1 "$system/bin/switch-to-configuration" boot
  if ! grep -qF "init=$system/init" /boot/grub/grub.cfg || ! find /boot/efi/EFI -ipath '*/boot/boot*.efi' | grep -q .; then
    fail "the boot loader does not start $system; do not reboot, and run \`pulumi up\` again"
  fi
}

# Only when the disk boots NixOS, so that it boots at any moment. An entry in the firmware's memory could start shim.
remove_debians_boot_loader() {
  rm -f /boot/vmlinuz-* /boot/initrd.img-* /boot/System.map-* /boot/config-*
  find /boot/efi -mindepth 1 ! -ipath /boot/efi/EFI ! -ipath /boot/efi/EFI/BOOT ! -ipath '/boot/efi/EFI/BOOT/BOOT*.EFI' -delete
}

# New connections are refused from here on, so whoever waits for NixOS keeps dialling and cannot land on Debian.
reboot_soon() {
  sync
  systemd-run --quiet --on-active=1 --timer-property=AccuracySec=100ms systemctl reboot
  systemctl stop ssh.socket ssh.service
}

convert() {
  wait_for_first_boot
  add_swap
  add_build_users
  install_nix
  unpack_tree
  build_bootstrap
  e2label /dev/sda1 nixos
  say "from here on the next boot is NixOS: $system"
  list_what_to_keep
  install_boot_loader
  remove_debians_boot_loader
  reboot_soon
}

main() {
  # shellcheck source=/dev/null
  . /etc/os-release
  [ "$ID" != nixos ] || {
    say "this host is NixOS already"
    return
  }
  check_machine
  case ${1:-start} in
  start) start_or_follow ;;
  convert) convert ;;
  esac
}

main "$@" </dev/null
