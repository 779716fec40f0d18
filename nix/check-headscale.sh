# check-headscale MEMORY: whether headscale answers that it is healthy, to HEALTH. Status 2 where it ends at every start: that
# does not change by waiting, and meanwhile no device reaches it.

memory=$1/restarts

# systemd counts from long before this deploy.
restarts() {
  systemctl show -P NRestarts headscale.service
}

[ -e "$memory" ] || restarts >"$memory"
curl -sS --max-time 5 "$HEALTH" | grep '"pass"' && exit
restarted=$(($(restarts) - $(<"$memory")))
[ "$restarted" -ge 3 ] || exit 1
echo "headscale.service has ended and been restarted $restarted times; it said last:"
journalctl --unit headscale.service --lines 5 --output cat | cut -c -300
exit 2
