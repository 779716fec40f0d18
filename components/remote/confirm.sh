#!/bin/sh
# Confirms the activation that waits, over a connection made after it: it becomes a generation and the boot default. What
# was confirmed before is only printed: the answer of that time may have been lost.
# stdin: the request that deploy.sh had. stdout: {"generation": 3}
set -eu
umask 077
state=/var/lib/deployment
booting=600

# Seconds since the boot: the time of day may step.
uptime() {
  cut -d . -f 1 /proc/uptime
}

not_kept() {
  generation=$(jq -r .generation "$state/confirmed.json" 2>/dev/null || echo "that the conversion made")
  echo "confirm: rolled back to generation $generation: $(cat "$state/reason" 2>/dev/null || echo "$1")" >&2
  exit 1
}

confirmed() {
  [ "$(jq -cS '{digest, token}' "$state/confirmed.json" 2>/dev/null)" = "$request" ]
}

waits() {
  systemctl is-active --quiet "$unit"
}

# A system that had to be booted is checked once it has booted; if that fails, the server boots the previous one.
wait_for_trial() {
  deadline=$(($(uptime) + booting))
  while [ -e "$state/trial" ] && ! waits && [ "$(uptime)" -lt "$deadline" ]; do
    sleep 0.2
  done
}

confirm() {
  wait_for_trial
  waits || not_kept "$unit does not wait to be confirmed; run \`pulumi up\` again"
  printf '%s\n' "$request" >"$state/confirmation.json.new"
  mv "$state/confirmation.json.new" "$state/confirmation.json"
  timeout 600 sh -c "while systemctl is-active --quiet '$unit'; do sleep 0.1; done"
  confirmed || not_kept "$unit has failed"
}

# The system that the conversion booted may have another kernel. No device depends yet on a server that has handed out no
# key: the first `up` ends with the kernel that it deployed. Later ones are booted when the operator says so. A connection
# that is tried meanwhile is refused, and tried again.
boot_the_deployed_kernel() {
  [ ! -e /var/lib/headscale-bootstrap ] || return 0
  [ "$(readlink -f /run/booted-system/kernel)" != "$(readlink -f /run/current-system/kernel)" ] || return 0
  systemd-run --quiet --on-active=1 --timer-property=AccuracySec=100ms systemctl reboot
  systemctl stop sshd.service
}

main() {
  request=$(jq -cS '{digest, token}')
  unit=deploy-$(printf '%s' "$request" | jq -r '.digest[:12]').service
  confirmed || confirm
  boot_the_deployed_kernel
  jq '{generation}' "$state/confirmed.json"
}

main "$@"
