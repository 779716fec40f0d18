#!/bin/sh
# Builds /etc/nixos, activates it without making it the boot default, and looks whether it serves. deploy.sh runs it.
set -eu
state=/var/lib/deployment
flake=path:/etc/nixos#nixosConfigurations.headscale.config.system.build.toplevel

# until_ok SECONDS WHAT COMMAND...: what the command said last is the reason when the time is over.
until_ok() {
  deadline=$(($(date +%s) + $1))
  what=$2
  shift 2
  until said=$("$@" 2>&1); do
    [ "$(date +%s)" -lt "$deadline" ] || {
      printf 'activate: %s: not within its time; last seen: %s\n' "$what" "$said" >&2
      exit 1
    }
    sleep 0.1
  done
}

headscale_passes() {
  curl -sS --max-time 5 http://127.0.0.1:8085/health | grep '"pass"'
}

# The certificate is not looked at: before the first order it is nginx's own.
nginx_serves() {
  curl -sSk --max-time 5 --fail -o /dev/null --resolve "$1:443:127.0.0.1" "https://$1$2"
}

sshd_answers() {
  systemctl is-active sshd.service && ssh-keyscan -T 5 127.0.0.1 | grep ssh-ed25519
}

main() {
  echo "building the system"
  system=$(timeout 3000 nix build --no-link --print-out-paths --no-update-lock-file --no-write-lock-file "$flake")
  echo "activating $system"
  timeout 600 "$system/bin/switch-to-configuration" test
  echo "checking headscale, nginx and sshd"
  until_ok 60 "headscale's health" headscale_passes
  until_ok 30 "nginx for headscale" nginx_serves "$(jq -r .headscaleName /etc/nixos/deployment.json)" /health
  until_ok 30 "nginx for the web interface" nginx_serves "$(jq -r .uiName /etc/nixos/deployment.json)" /web/
  until_ok 30 "sshd" sshd_answers
  jq --arg system "$system" '. + {system: $system}' "$state/request.json" >"$state/pending.json"
}

main "$@" </dev/null
