#!/bin/sh
# Makes this host use the keys of the stack's configuration: it shows the host key from now on, and accepts the deploy key
# beside those of the system that runs, until a deploy is confirmed. Run in a bundle with host-key and deploy-key.pub.
set -eu
umask 077
state=/var/lib/deployment
host_key=/etc/ssh/ssh_host_ed25519_key

fail() {
  echo "take-keys: $*" >&2
  exit 1
}

# Seconds since the boot: the time of day may step.
uptime() {
  cut -d . -f 1 /proc/uptime
}

accept_deploy_key() {
  mkdir -p "$state"
  cp deploy-key.pub "$state/authorized_keys.new"
  mv "$state/authorized_keys.new" "$state/authorized_keys"
}

shown() {
  ssh-keyscan -T 5 -t ed25519 127.0.0.1 2>/dev/null | grep -o 'ssh-ed25519 [^ ]*'
}

# put PRIVATE PUBLIC: sshd refuses a public half that does not belong to the private one, but needs none.
put() {
  cp "$1" "$host_key.new"
  cp "$2" "$host_key.pub.new"
  chmod 644 "$host_key.pub.new"
  rm -f "$host_key.pub"
  mv "$host_key.new" "$host_key"
  mv "$host_key.pub.new" "$host_key.pub"
  systemctl restart sshd.service
}

shows() {
  deadline=$(($(uptime) + 15))
  until [ "$(shown)" = "$1" ]; do
    [ "$(uptime)" -lt "$deadline" ] || return
    sleep 0.1
  done
}

change_host_key() {
  cp "$host_key" former
  ssh-keygen -y -f former >former.pub
  put host-key host-key.pub
  shows "$public" || {
    put former former.pub
    fail "sshd does not show the new host key; the former one is in place again"
  }
}

main() {
  ssh-keygen -y -f host-key >host-key.pub || fail "the new host key cannot be read"
  public=$(cut -d ' ' -f 1-2 host-key.pub)
  accept_deploy_key
  if [ "$(shown)" != "$public" ] || ! cmp -s host-key "$host_key"; then
    change_host_key
  fi
  echo "this host takes the keys of the configuration"
}

main "$@" </dev/null
