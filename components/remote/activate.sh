#!/bin/sh
# Builds /etc/nixos, activates it, checks that it serves, and keeps it once confirm.sh has come over a new connection;
# otherwise rolls back. deploy.sh runs it as a unit of type notify, which is ready when it waits to be confirmed.
# What services need is said by the system that is activated, below etc/deployment: see nix/deployment.nix.
# `activate.sh trial` continues after the boot of a system that NixOS does not switch to while another runs.
set -u
umask 077
state=/var/lib/deployment
pending=$state/pending.json
trial=$state/trial
memory=/run/deployment/checks
profile=/nix/var/nix/profiles/system
flake=path:/etc/nixos#nixosConfigurations.headscale.config.system.build.toplevel

# failed WHAT: of several reasons the first is kept for confirm.sh.
failed() {
  printf 'activate: %s\n' "$1" >&2
  [ -e "$state/reason" ] || printf '%s\n' "$1" >"$state/reason"
  return 1
}

# Seconds since the boot: the time of day may step.
uptime() {
  cut -d . -f 1 /proc/uptime
}

# until_ok SECONDS FAILURE COMMAND...: FAILURE, and what the command printed last, are the reason when the time is over, or
# when its status 2 says that waiting does not help. Each look takes processor time from what it waits for.
until_ok() {
  slow_from=$(($(uptime) + 3))
  deadline=$(($(uptime) + $1))
  failure=$2
  limit=$1
  shift 2
  until output=$("$@" 2>&1); do
    status=$?
    if [ "$status" = 2 ] || [ "$(uptime)" -ge "$deadline" ]; then
      [ "$status" = 2 ] || failure="$failure within $limit s"
      failed "$failure${output:+; last seen: $output}"
      return
    fi
    if [ "$(uptime)" -lt "$slow_from" ]; then sleep 0.1; else sleep 1; fi
  done
}

build() {
  echo "building the system"
  {
    timeout 3000 nix build --out-link "$state/system" --no-update-lock-file --no-write-lock-file "$flake" 2>&1
    echo $? >"$state/build.status"
  } | tee "$state/build.log"
  [ "$(cat "$state/build.status")" = 0 ] || failed "the configuration could not be built$(why_not_built)" || return
  [ "$(sh /etc/nixos/remote/digest.sh)" = "$DIGEST" ] || failed "/etc/nixos changed while it was built; run \`pulumi up\` again"
}

# What the builder printed, which nix quotes, or else nix; and that memory ran out, of which neither says more than that a
# process was killed.
why_not_built() {
  words=$(sed -n 's/^ *> //p' "$state/build.log" | grep -v ' INF ' || sed -n '/error:/,$p' "$state/build.log")
  printf ': %s' "$(printf '%s\n' "$words" | tail -n 8 | cut -c -300)"
  if grep -Eqi 'signal 9|killed|cannot allocate memory|out of memory' "$state/build.log"; then
    printf ' (a process was killed, as happens where memory runs out: a larger headscale:serverType has more)'
  fi
}

# ask_before: services may refuse what they would not survive, or warn of it.
ask_before() {
  for ask in "$system"/etc/deployment/before/*; do
    [ -x "$ask" ] || continue
    words=$("$ask" "$previous" "$system" 2>&1) || failed "$words" || return
    [ -z "$words" ] || echo "$words"
  done
}

# each_data VERB: has each service save, stop or restore its data.
each_data() {
  for data in "$system"/etc/deployment/data/*; do
    [ ! -x "$data" ] || "$data" "$1" "$state/before" "$previous" "$system" || return
  done
}

# From here on a reboot boots the previous system, whose deployment-undo.service finds this and undoes the rest. That
# /run/deployment is gone tells it of the reboot.
save() {
  mkdir -p /run/deployment "$state/before"
  each_data save || failed "$(basename "$data"): its data could not be saved" || return
  jq -n --arg digest "$DIGEST" --arg system "$system" --arg previous "$previous" '$ARGS.named' >"$pending.new" &&
    mv "$pending.new" "$pending"
}

failed_units() {
  systemctl list-units --failed --plain --no-legend | cut -d ' ' -f 1
}

# Extended regular expressions of units whose failure is not a reason to roll back.
may_fail() {
  cat "$system"/etc/deployment/may-fail/* 2>/dev/null
}

broken_units() {
  failed_units | grep -Evx "$(may_fail)" | tr '\n' ' '
}

# Each line names a unit and the unit whose log says why it failed.
retries() {
  cat "$system"/etc/deployment/retry/* 2>/dev/null
}

retry() {
  retries | while read -r unit _; do
    ! failed_units | grep -qx "$unit" || systemctl restart "$unit"
  done
}

# The switch names what has failed, also what has been started again since.
failing_units() {
  {
    systemctl list-units --plain --no-legend --state=failed,auto-restart | cut -d ' ' -f 1
    sed -n 's/^warning: the following units failed: //p' "$state/switch.log" | tr -s ', ' '\n'
  } | while read -r unit; do
    retries | grep "^$unit " | cut -d ' ' -f 2 | grep . || echo "$unit"
  done | sort -u | grep -Evx "$(may_fail)"
}

last_words() {
  for unit in "$@"; do
    printf '\n%s said last:\n' "$unit"
    journalctl --unit "$unit" --lines 5 --output cat | cut -c -300
  done
}

# judge_failures: the switch ended with status 4, since a unit has failed, or a reload. Which one, only a failed unit tells.
judge_failures() {
  failed_before=$(failed_units)
  retry
  if [ -n "$failed_before" ] && [ -z "$(broken_units)" ]; then
    failed_units | sed 's/$/ has failed, which is not a reason to roll back: its journal says why/'
    return
  fi
  failing=$(failing_units | tr '\n' ' ')
  # shellcheck disable=SC2086 # Names of units hold no spaces.
  failed "the configuration could not be activated (status 4); failed units: ${failing:-none, but a reload}$(last_words $failing)"
}

# The same status as for other errors: only the check alone tells that NixOS wants this system to be booted.
must_be_booted() {
  [ "$1" = 1 ] && ! "$system/bin/switch-to-configuration" check >/dev/null 2>&1
}

activate() {
  echo "activating $system"
  timeout 600 "$system/bin/switch-to-configuration" test >"$state/switch.log" 2>&1
  status=$?
  cat "$state/switch.log"
  if [ "$status" = 4 ]; then
    judge_failures
  elif must_be_booted "$status"; then
    prepare_trial
  elif [ "$status" != 0 ]; then
    failed "the configuration could not be activated (status $status); the switch said last: $(tail -n 5 "$state/switch.log")"
  fi
}

generation() {
  readlink "$profile" | sed 's/^system-\([0-9]*\)-link$/\1/'
}

# make_default GENERATION SYSTEM: the boot default is this system again.
make_default() {
  nix-env -p "$profile" --switch-generation "$1" && "$2/bin/switch-to-configuration" boot
}

# The boot default stays: only the next boot is of the new system, which the menu lists first below all generations.
prepare_trial() {
  echo "NixOS does not switch to this system while another one runs: it is booted once, and kept if it serves"
  kept=$(generation)
  if nix-env -p "$profile" --set "$system" && make_default "$kept" "$previous" &&
    grub-editenv /boot/grub/grubenv set 'next_entry=1>0'; then
    touch "$trial"
    sync
    return
  fi
  failed "the system could not be prepared to be booted once"
}

# In time for the answers of deploy.sh and confirm.sh. A new connection must not reach the system that ends: it is refused, and
# tried again until the next system is there.
reboot_soon() {
  systemd-run --quiet --on-active=2 --timer-property=AccuracySec=100ms systemctl reboot
  systemctl stop sshd.service
}

repair() {
  for repair in "$system"/etc/deployment/after/*; do
    [ ! -x "$repair" ] || "$repair" || failed "$(basename "$repair") could not be repaired" || return
  done
}

sshd_answers() {
  systemctl is-active sshd.service && ssh-keyscan -T 5 127.0.0.1 2>/dev/null | grep ssh-ed25519
}

# Each check gets a directory in which it may remember something from one look to the next.
check() {
  echo "checking that sshd and the services answer"
  rm -rf "$memory"
  mkdir -p "$memory"
  until_ok 15 "sshd did not answer" sshd_answers || return
  for check in "$system"/etc/deployment/checks/*; do
    [ ! -x "$check" ] || until_ok 60 "$(basename "$check") did not pass its check" "$check" "$memory" || return
  done
}

confirmation() {
  [ -e "$state/confirmation.json" ]
}

await_confirmation() {
  systemd-notify --ready --status="waiting to be confirmed"
  until_ok 60 "not confirmed: no new SSH connection" confirmation
}

record() {
  (cd /etc/nixos && find . -type f | LC_ALL=C sort | xargs sha256sum) >"$state/confirmed.files"
  jq --arg system "$system" --argjson generation "$(generation)" '. + {system: $system, generation: $generation}' \
    "$state/confirmation.json" >"$state/confirmed.json.new" && mv "$state/confirmed.json.new" "$state/confirmed.json"
}

# The key that take-keys.sh let in is one of the system's own keys by now, and the first age key, push.sh's, opens all it
# needs.
forget_former_keys() {
  rm -f "$state/authorized_keys"
  head -n 1 /var/lib/sops-nix/key.txt >/var/lib/sops-nix/key.txt.new && mv /var/lib/sops-nix/key.txt.new /var/lib/sops-nix/key.txt
}

keep() {
  before=$(generation)
  if nix-env -p "$profile" --set "$system" && "$system/bin/switch-to-configuration" boot && record; then
    rm -f "$trial" "$pending" "$state/confirmation.json"
    forget_former_keys
    # Debian's remains hold cloud-init's copy of the SSH host key.
    rm -rf --one-file-system /old-root
    return
  fi
  failed "the configuration was confirmed, but could not be made the boot default"
  make_default "$before" "$previous"
  return 1
}

# A system on trial was booted once: the boot default is the previous one, whose deployment-undo.service does the rest. A
# reboot is also the last resort where the previous system runs again and sshd does not answer.
roll_back() {
  echo "rolling back to $previous"
  [ ! -e "$trial" ] || {
    grub-editenv /boot/grub/grubenv unset next_entry
    rm "$trial"
    reboot_soon
    return 1
  }
  each_data stop
  undo-deployment "$previous"
  timeout 600 "$previous/bin/switch-to-configuration" test
  until_ok 30 "sshd did not answer after the rollback" sshd_answers || systemctl reboot
  return 1
}

finish() {
  { repair && check && await_confirmation && keep; } || roll_back
}

deploy() {
  previous=$(readlink -f /run/current-system)
  build || return
  system=$(readlink -f "$state/system")
  # What runs may be the bootstrap system: programs come with the system that is deployed.
  PATH=$system/sw/bin:$PATH
  ask_before || return
  save || return
  activate || roll_back || return
  if [ -e "$trial" ]; then
    systemd-notify --ready --status="rebooting"
    reboot_soon
  else
    finish
  fi
}

continue_trial() {
  previous=$(jq -r .previous "$pending")
  system=$(jq -r .system "$pending")
  PATH=$system/sw/bin:$PATH
  mkdir -p /run/deployment
  until_ok 300 "the server did not finish booting" systemctl is-active multi-user.target || roll_back || return
  finish
}

if [ "${1:-}" = trial ]; then continue_trial </dev/null; else deploy </dev/null; fi
