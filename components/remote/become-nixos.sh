#!/bin/sh
# Turns a fresh Debian 13 server of ours into a small NixOS that the first deploy completes: NixOS manual, "Installing
# from another Linux distribution", with the traps met on the way. Run in a bundle with marker and tree.tar.
# Everything up to `point of no return` may be repeated; a host that is NixOS already is left alone.
set -eu
umask 022
export HOME=/root LC_ALL=C DEBIAN_FRONTEND=noninteractive

say() { printf 'become-nixos: %s\n' "$*"; }
fail() {
  say "$*" >&2
  exit 64
}

check_machine() {
  # shellcheck source=/dev/null
  . /etc/os-release
  [ "$ID $VERSION_ID" = "debian 13" ] || fail "this is $ID $VERSION_ID, not the Debian 13 that was ordered"
  cmp -s marker /etc/become-nixos.allow ||
    fail "/etc/become-nixos.allow does not name this stack's server: not a fresh server of ours, nothing was changed"
  [ ! -e /var/lib/headscale ] || fail "/var/lib/headscale exists: this server is in use, nothing was changed"
  root=$(findmnt -no SOURCE /)
  [ "$root $(findmnt -no FSTYPE /)" = "/dev/sda1 ext4" ] || fail "the root file system is $root, expected /dev/sda1 with ext4"
  [ "$(findmnt -no SOURCE /boot/efi)" = /dev/sda15 ] || fail "/boot/efi is not /dev/sda15, where the boot loader belongs"
  [ "$(df --output=avail -B1M / | tail -n 1)" -ge 12288 ] || fail "less than 12 GiB are free on /"
  [ "$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)" -ge 3500 ] || fail "less than 3.5 GiB of memory"
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
  command -v nix >/dev/null && return
  say "installing nix"
  timeout 600 apt-get -q -o DPkg::Lock::Timeout=300 update
  timeout 600 apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends nix-bin ca-certificates
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
  mkdir -p /nix/var/nix/builds
  export NIX_CONFIG='experimental-features = nix-command flakes
max-jobs = auto
build-dir = /nix/var/nix/builds
connect-timeout = 15'
  say "building the bootstrap system"
  system=$(timeout 2400 nix build --no-link --print-out-paths --no-update-lock-file --no-write-lock-file \
    path:/etc/nixos#nixosConfigurations.bootstrap.config.system.build.toplevel)
  [ -x "$system/bin/switch-to-configuration" ] || fail "nix built no system: $system"
  nix-env -p /nix/var/nix/profiles/system --set "$system"
}

# Stage 1 of the bootstrap system keeps these and moves all else to /old-root. It skips a last line without newline.
list_what_to_keep() {
  touch /etc/NIXOS
  for path in etc/nixos etc/ssh/ssh_host_ed25519_key etc/ssh/ssh_host_ed25519_key.pub etc/machine-id; do
    [ -e "/$path" ] || fail "/$path is missing"
    printf '%s\n' "$path"
  done >/etc/NIXOS_LUSTRATE
}

install_boot_loader() {
  [ -e /boot.bak ] || {
    cp -a /boot /boot.bak.new
    mv -T /boot.bak.new /boot.bak
  }
  find /boot -xdev -mindepth 1 ! -path /boot/efi -delete
  find /boot/efi -mindepth 1 -delete
  NIXOS_INSTALL_BOOTLOADER=1 "$system/bin/switch-to-configuration" boot
  grep -q "$system" /boot/grub/grub.cfg || fail "the boot loader does not name $system; /boot.bak holds Debian's"
}

# New connections are refused from here on, so whoever waits for NixOS keeps dialling and cannot land on Debian.
reboot_soon() {
  sync
  systemctl stop ssh.socket ssh.service
  systemd-run --quiet --on-active=1 --timer-property=AccuracySec=100ms systemctl reboot
}

main() {
  [ ! -e /etc/NIXOS ] || [ -e /etc/NIXOS_LUSTRATE ] || {
    say "this host is NixOS already"
    return
  }
  exec 9>/run/become-nixos.lock
  flock -n 9 || fail "another run is under way on the server; wait for it and run \`pulumi up\` again"
  check_machine
  wait_for_first_boot
  add_swap
  add_build_users
  install_nix
  unpack_tree
  build_bootstrap
  e2label "$root" nixos
  say "point of no return: boot loader, then reboot into $system"
  list_what_to_keep
  install_boot_loader
  reboot_soon
}

main "$@" </dev/null
