#!/bin/sh
# Builds /etc/nixos, activates it, looks whether it serves, and keeps it once confirm.sh has come over a new connection;
# otherwise goes back to what ran before. deploy.sh runs it as a unit of type notify: ready is who waits to be confirmed.
set -u
umask 077
state=/var/lib/deployment
pending=$state/pending.json
profile=/nix/var/nix/profiles/system
database=/var/lib/headscale/db.sqlite
flake=path:/etc/nixos#nixosConfigurations.headscale.config.system.build.toplevel

# failed WHAT: the first reason is the one that whoever asks later gets to hear.
failed() {
  printf 'activate: %s\n' "$1" >&2
  [ -e "$state/reason" ] || printf '%s\n' "$1" >"$state/reason"
  return 1
}

# Seconds since the boot: the time of day may step.
uptime() {
  cut -d . -f 1 /proc/uptime
}

# until_ok SECONDS WHAT COMMAND...: what the command said last is the reason when the time is over, or when its status 2
# says that waiting is of no use. Each look takes processor time from what it waits for.
until_ok() {
  seldom_from=$(($(uptime) + 3))
  deadline=$(($(uptime) + $1))
  what=$2
  shift 2
  until said=$("$@" 2>&1); do
    if [ $? = 2 ] || [ "$(uptime)" -ge "$deadline" ]; then
      failed "$what: waited in vain; last seen: $said"
      return
    fi
    if [ "$(uptime)" -lt "$seldom_from" ]; then sleep 0.1; else sleep 1; fi
  done
}

build() {
  echo "building the system"
  timeout 3000 nix build --out-link "$state/system" --no-update-lock-file --no-write-lock-file "$flake" ||
    failed "the configuration could not be built" || return
  [ "$(sh /etc/nixos/remote/digest.sh)" = "$DIGEST" ] || failed "/etc/nixos changed while it was built; run \`pulumi up\` again"
}

headscale_version() {
  cat "$1/etc/headscale/version" 2>/dev/null
}

# From here on a reboot boots the previous system, whose deployment-undo.service finds this and undoes the rest. That
# /run/deployment is gone tells it of the reboot.
take_note() {
  mkdir -p /run/deployment
  if [ -e "$database" ]; then
    rm -f "$state/before.sqlite"
    sqlite3 "$database" ".timeout 10000" ".backup '$state/before.sqlite'" || failed "the database could not be copied" || return
  fi
  jq -n --arg digest "$DIGEST" --arg system "$system" --arg previous "$previous" \
    --arg before "$(headscale_version "$previous")" --arg after "$(headscale_version "$system")" \
    '{digest: $digest, system: $system, previous: $previous, headscale: {before: $before, after: $after}}' \
    >"$pending.new" && mv "$pending.new" "$pending"
}

failed_units() {
  systemctl list-units --failed --plain --no-legend | cut -d ' ' -f 1
}

# Units whose failure is told elsewhere and is no reason to go back: what a certificate authority or Tailscale refuses is
# not the configuration's fault, and a kernel may refuse audit rules.
FORGIVEN='^(acme-order-renew-.*|derp-map|audit-rules-nixos)\.service$'

broken_units() {
  failed_units | grep -Ev "$FORGIVEN" | tr '\n' ' '
}

# NGINX that is just being started dies of a reload, and comes back by itself.
reload_nginx_again() {
  failed_units | grep -qx nginx-config-reload.service && systemctl restart nginx-config-reload.service
}

# The switch names what has failed, also what has been started again by now. Why a reload of NGINX failed, NGINX's log says.
failing_units() {
  {
    systemctl list-units --plain --no-legend --state=failed,auto-restart | cut -d ' ' -f 1
    sed -n 's/^warning: the following units failed: //p' "$state/switch.log" | tr -s ', ' '\n'
  } | sed 's/^nginx-config-reload\.service$/nginx.service/' | sort -u | grep -Ev "$FORGIVEN"
}

last_words() {
  for unit in "$@"; do
    printf '\n%s said last:\n' "$unit"
    journalctl --unit "$unit" --lines 5 --output cat | cut -c -300
  done
}

activate() {
  echo "activating $system"
  timeout 600 "$system/bin/switch-to-configuration" test >"$state/switch.log" 2>&1
  status=$?
  cat "$state/switch.log"
  [ "$status" != 0 ] || return 0
  # Status 4: a unit has failed, or a reload. Which one, only a failed unit tells.
  if [ "$status" = 4 ] && { reload_nginx_again || failed_units | grep -Eq "$FORGIVEN"; } && [ -z "$(broken_units)" ]; then
    failed_units | sed 's/$/ has failed, which is no reason to roll back: its journal says why/'
    return
  fi
  [ "$status" = 4 ] || {
    failed "the configuration could not be activated (status $status); the switch said last: $(tail -n 5 "$state/switch.log")"
    return
  }
  failing=$(failing_units | tr '\n' ' ')
  # shellcheck disable=SC2086 # Names of units hold no spaces.
  failed "the configuration could not be activated (status $status); failed units: ${failing:-none, but a reload}$(last_words $failing)"
}

headscale_restarts() {
  restarts=$(systemctl show -P NRestarts headscale.service)
  echo "${restarts:-0}"
}

# What fails at every start will fail at the next: meanwhile no device reaches headscale.
headscale_passes() {
  curl -sS --max-time 5 http://127.0.0.1:8085/health | grep '"pass"' && return
  restarted=$(($(headscale_restarts) - restarts_before))
  [ "$restarted" -lt 3 ] || {
    echo "headscale.service has ended and been restarted $restarted times"
    last_words headscale.service
    return 2
  }
  return 1
}

api_key_is_known() {
  registered=$(systemctl show -P SubState headscale-api-key.service)
  [ "$registered" != exited ] || return 0
  last_words headscale-api-key.service
  [ "$registered" = failed ] && return 2
  return 1
}

# The certificate is not looked at: before the first order it is nginx's own. 403: only some networks may see the host.
nginx_serves() {
  curl -sSk --max-time 5 -o /dev/null -w '%{http_code}\n' --resolve "$1:443:127.0.0.1" "https://$1$2" | grep -E '200|403'
}

sshd_answers() {
  systemctl is-active sshd.service && ssh-keyscan -T 5 127.0.0.1 2>/dev/null | grep ssh-ed25519
}

name_of() {
  jq -r ".$1" /etc/nixos/deployment.json
}

check() {
  echo "checking sshd, headscale and nginx"
  # systemd may count from long before this deploy.
  restarts_before=$(headscale_restarts)
  until_ok 15 "sshd" sshd_answers &&
    until_ok 60 "headscale's health" headscale_passes &&
    until_ok 60 "the registration of the API key" api_key_is_known &&
    until_ok 30 "nginx for headscale" nginx_serves "$(name_of headscaleName)" /health &&
    until_ok 30 "nginx for the web interface" nginx_serves "$(name_of uiName)" /web/
}

confirmation() {
  [ -e "$state/confirmation.json" ] || {
    echo "nobody came"
    return 1
  }
}

await_confirmation() {
  systemd-notify --ready --status="waiting to be confirmed"
  until_ok 60 "a confirmation over a new SSH connection" confirmation
}

record() {
  generation=$(readlink "$profile" | sed 's/^system-\([0-9]*\)-link$/\1/')
  jq --arg system "$system" --argjson generation "$generation" '. + {system: $system, generation: $generation}' \
    "$state/confirmation.json" >"$state/confirmed.json.new" && mv "$state/confirmed.json.new" "$state/confirmed.json"
}

# What take-keys.sh let in is now one of the system's own keys, and the first age key, push.sh's, opens all it needs.
forget_former_keys() {
  rm -f "$state/authorized_keys"
  head -n 1 /var/lib/sops-nix/key.txt >/var/lib/sops-nix/key.txt.new && mv /var/lib/sops-nix/key.txt.new /var/lib/sops-nix/key.txt
}

keep() {
  if nix-env -p "$profile" --set "$system" && "$system/bin/switch-to-configuration" boot && record; then
    rm -f "$pending" "$state/confirmation.json"
    forget_former_keys
    # Debian's remains hold cloud-init's copy of the SSH host key.
    rm -rf --one-file-system /old-root
    return
  fi
  failed "the configuration was confirmed, but could not be made the boot default"
  nix-env -p "$profile" --rollback
  "$previous/bin/switch-to-configuration" boot
  return 1
}

# Where going back leaves no way in, only a reboot is left: the boot default is still the previous system.
go_back() {
  echo "going back to $previous"
  [ "$(jq -r '.headscale.before == .headscale.after' "$pending")" = true ] || systemctl stop headscale.service
  undo-deployment "$previous"
  timeout 600 "$previous/bin/switch-to-configuration" test
  until_ok 30 "sshd, after going back" sshd_answers || systemctl reboot
  return 1
}

main() {
  previous=$(readlink -f /run/current-system)
  build || return
  system=$(readlink -f "$state/system")
  # What runs may be the bootstrap system, which has neither sqlite3 nor all else that is wanted below.
  PATH=$system/sw/bin:$PATH
  take_note || return
  { activate && check && await_confirmation && keep; } || go_back
}

main "$@" </dev/null
