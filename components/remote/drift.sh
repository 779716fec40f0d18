#!/bin/sh
# Lists what has changed on this host since its last confirmed deploy, and what its operator should know; changes nothing.
# stdout: {"drift": ["nginx.service is inactive", ...], "warnings": [...]}: what the next deploy repairs, and what it does
# not.
set -u
state=/var/lib/deployment

systems() {
  [ "$(readlink -f /run/current-system)" = "$system" ] || echo "the server runs another system than the deployed one"
  [ "$(readlink -f /nix/var/nix/profiles/system)" = "$system" ] || echo "the server would boot another system than the deployed one"
}

# The manifest is of the last deploy; a host that was deployed to before there was one has none.
files() {
  [ "$(sh /etc/nixos/remote/digest.sh)" != "$(jq -r .digest "$state/confirmed.json")" ] || return 0
  changed=$(cd /etc/nixos && find . -type f | LC_ALL=C sort | xargs sha256sum | diff "$state/confirmed.files" - 2>/dev/null |
    sed -n 's/^[<>] [0-9a-f]*  \.\///p' | LC_ALL=C sort -u | head -n 5 | tr '\n' ' ')
  echo "/etc/nixos is not what was deployed${changed:+: ${changed% } changed}"
}

# Extended regular expressions of units whose failure a deploy does not repair.
may_fail() {
  cat "$system"/etc/deployment/may-fail/* 2>/dev/null
}

failed_units() {
  systemctl list-units --failed --plain --no-legend | cut -d ' ' -f 1
}

# A unit that is just being started, or waits for another one, is not drift.
units() {
  [ "$(systemctl is-system-running)" != starting ] || return 0
  # In this order, whichever order is asked for.
  systemctl show -p Id -p ActiveState -p SubState headscale nginx sshd fail2ban nftables | while IFS='=' read -r property value; do
    case $property in
    Id) unit=$value ;;
    ActiveState) active=$value ;;
    SubState)
      case $active/$value in
      inactive/* | */auto-restart*) echo "$unit is $value" ;;
      esac
      ;;
    esac
  done
  failed_units | grep -Evx "$(may_fail)" | sed 's/$/ has failed/'
}

# each KIND: the lines of each service, by the system's files below etc/deployment: see nix/deployment.nix.
each() {
  for program in "$system/etc/deployment/$1"/*; do
    [ ! -x "$program" ] || "$program" "$system" &
  done
  wait
}

# Of certificates, warnings/certificates says more.
failures() {
  failed_units | grep -Ex "$(may_fail)" | grep -v '^acme-' | while read -r unit; do
    echo "$unit has failed, which no deploy repairs: \`journalctl --unit $unit\` on the server says why"
  done
}

reboot() {
  [ "$(readlink -f /run/booted-system/kernel)" = "$(readlink -f /run/current-system/kernel)" ] ||
    echo "the server still runs its former kernel: \`ssh root@SERVER reboot\` boots the deployed one; headscale is away for a minute"
}

# Most of these wait longer than they work, so they run side by side; a line is one write, which no other splits.
drift() {
  systems &
  files &
  units &
  each drift &
  wait
}

warnings() {
  failures &
  reboot &
  each warnings &
  wait
}

main() {
  system=$(jq -r '.system // empty' "$state/confirmed.json" 2>/dev/null)
  if [ -z "$system" ]; then
    echo '{"drift": [], "warnings": []}'
    return
  fi
  {
    drift | sed 's/^/drift /' &
    warnings | sed 's/^/warnings /' &
    wait
  } | LC_ALL=C sort | jq -Rn '
    [inputs | capture("^(?<kind>drift|warnings) (?<line>.+)")] as $lines
    | def of($kind): [$lines[] | select(.kind == $kind).line];
      {drift: of("drift"), warnings: of("warnings")}'
}

main "$@" </dev/null
