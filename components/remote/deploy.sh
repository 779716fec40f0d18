#!/bin/sh
# Activates what push.sh brought, in a unit of its own that outlives this connection, and shows its progress.
# stdin: {"digest": "...", "token": "..."}. Ends well when the unit waits for confirm.sh, or the server is rebooted to try a
# system; without confirm.sh, all is rolled back. What was confirmed before is not deployed again: the answer of that time may
# have been lost. `deploy.sh trial`, after that reboot, only starts the unit that continues.
set -eu
umask 077
state=/var/lib/deployment
latest=3600
booting=300

# Seconds since the boot: the time of day may step.
uptime() {
  cut -d . -f 1 /proc/uptime
}

# Seconds until the oldest of all units that deploy is over, or this very one waits for its confirmation.
wait_for_others() {
  deadline=$(($(uptime) + latest))
  while running=$(systemctl list-units --plain --no-legend --state=activating,active 'deploy-*.service' | cut -d ' ' -f 1) &&
    [ -n "$running" ] && ! waits_for_confirmation "$running"; do
    [ "$(uptime)" -lt "$deadline" ] || fail "$running is still under way after $latest s"
    [ "$running" = "${announced:-}" ] || echo "deploy: $running is under way; waiting for it"
    announced=$running
    sleep 1
  done
}

waits_for_confirmation() {
  [ "$1" = "$unit" ] && [ "$(systemctl show -P ActiveState "$unit")" = active ]
}

fail() {
  echo "deploy: $*" >&2
  exit 1
}

# A switch starts only what active targets want: before the end of the boot, neither NGINX nor certificates. A system on trial
# has its unit by then.
wait_for_boot() {
  deadline=$(($(uptime) + booting))
  until systemctl is-active --quiet multi-user.target; do
    [ "$(uptime)" -lt "$deadline" ] ||
      fail "the server has not finished booting within $booting s; it waits for: $(systemctl list-jobs --plain --no-legend)"
    sleep 0.2
  done
}

confirmed() {
  [ "$(jq -cS '{digest, token}' "$state/confirmed.json" 2>/dev/null)" = "$request" ]
}

check_pushed() {
  pushed=$(sh /etc/nixos/remote/digest.sh)
  [ "$pushed" = "$digest" ] ||
    fail "/etc/nixos holds $pushed, not $digest: changed since the push; run \`pulumi up\` again"
}

begin() {
  begun=$(($(cat "$state/begun" 2>/dev/null || echo 0) + 1))
  echo "$begun" >"$state/begun.new"
  mv "$state/begun.new" "$state/begun"
  rm -f "$state/confirmation.json" "$state/reason"
  # shellcheck disable=SC2012 # Our own names.
  ls -t "$state"/deploy-*.log 2>/dev/null | tail -n +10 | xargs -r rm --
}

# start VERB [OPTION...]: the unit of activate.sh. Compiling must not starve what serves meanwhile: root builds in this unit,
# not in nix-daemon's.
start() {
  verb=$1
  shift
  systemd-run "$@" --quiet --collect --unit "$unit" --property Type=notify --property NotifyAccess=all \
    --property CPUWeight=20 --property IOWeight=20 --property OOMScoreAdjust=500 \
    --property TimeoutStartSec="$latest" --setenv PATH="$PATH" --setenv HOME=/root --setenv DIGEST="$digest" \
    --property StandardOutput="append:$log" --property StandardError="append:$log" \
    sh /etc/nixos/remote/activate.sh "$verb" >/dev/null 2>&1
}

# systemd-run ends when activate.sh says that it is ready, or has failed.
run() {
  : >"$log"
  start deploy &
  started=$!
  # Lines of 64 KiB and more stop pulumi-command's log for ever.
  tail -n +1 -f -s 0.1 --pid "$started" "$log" | stdbuf -oL cut -c -500
  wait "$started" || fail "$(cat "$state/reason" 2>/dev/null || echo "the activation was ended from outside")
The server runs what it ran before; $log on the server tells more."
}

take_digest() {
  digest=$(printf '%s' "$1" | jq -r .digest)
  unit=deploy-$(printf '%.12s' "$digest").service
  log=$state/${unit%.service}.log
}

continue_trial() {
  take_digest "$(cat "$state/pending.json")"
  start trial --no-block
}

main() {
  mkdir -p "$state"
  request=$(jq -cS '{digest, token}')
  take_digest "$request"
  exec 9>"$state/lock"
  flock -n 9 || {
    echo "deploy: another one is under way; waiting for it"
    flock -w "$latest" 9 || fail "another deploy is still under way after $latest s"
  }
  wait_for_boot
  wait_for_others
  check_pushed
  if [ -n "$running" ]; then
    echo "deploy: $unit waits for its confirmation already"
  elif confirmed; then
    echo "deploy: this is deployed and confirmed already"
  else
    begin
    run 9>&-
  fi
}

if [ "${1:-}" = trial ]; then continue_trial; else main; fi
