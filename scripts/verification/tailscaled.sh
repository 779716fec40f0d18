#!/bin/sh
# tailscaled.sh DIRECTORY: a throw-away tailscaled, which changes nothing of this machine: no interface, no route, no DNS.
# It lives as long as stdin stays open, so that it does not outlive who started it, however that one ends; then it logs
# out, and the directory is removed.
set -u
directory=$1
tailscaled --tun=userspace-networking --state=mem: --statedir="$directory" --socket="$directory/socket" --port=0 \
  </dev/null >"$directory/log" 2>&1 &
daemon=$!
cat >/dev/null
kill "$daemon" 2>/dev/null
wait "$daemon"
rm -rf "$directory"
