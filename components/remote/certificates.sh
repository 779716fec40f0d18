#!/bin/sh
# Waits until every name is served with the certificate that was ordered for it; until then nginx shows its own.
# stdin: {"names": ["headscale.example.org", ...]}
set -eu

# Seconds since the boot: the time of day may step.
uptime() {
  cut -d . -f 1 /proc/uptime
}

served() {
  openssl s_client -connect 127.0.0.1:443 -servername "$1" </dev/null 2>/dev/null | openssl x509 -noout -fingerprint
}

ordered() {
  [ -e "/var/lib/acme/$1/acme-success" ] && openssl x509 -noout -fingerprint -in "/var/lib/acme/$1/cert.pem"
}

required() {
  systemctl show -P Requires "$1" | tr ' ' '\n' | grep "^$2" || true
}

# failed_order ORDER: orders of one account wait for the first of them, and do not run when that one fails.
failed_order() {
  account=$(required "$1" acme-account-)
  leader=${account:+$(required "$account" acme-order-renew-)}
  if [ -n "$leader" ] && [ "$(systemctl show -P ExecMainStatus "$leader")" != 0 ]; then
    echo "$leader"
  else
    echo "$1"
  fi
}

give_up() {
  order=$(failed_order "acme-order-renew-$1.service")
  echo "certificates: $2 for $1; the last words of $order were:" >&2
  journalctl "_SYSTEMD_UNIT=$order" -n 8 -o cat | cut -c -500 >&2
  exit 1
}

# Neither running nor queued: it has failed, or was not started because another has failed, or its failure was reset by a
# later switch.
is_idle() {
  [ -z "$(systemctl show -P Job "$1")" ] && systemctl show -P ActiveState "$1" | grep -Eqx 'inactive|failed'
}

# order_again NAME PAUSE...: a timer repeats a failed order only the next day. What the order needs, a record or a route, may
# take a while.
order_again() {
  [ $# -gt 1 ] || give_up "$1" "three more orders failed"
  sleep "$2"
  echo "ordering the certificate for $1 once more, since $(failed_order "acme-order-renew-$1.service") has failed"
  systemctl start "acme-order-renew-$1.service" || true
}

# A reload without effect leaves workers with the former certificate.
serve() {
  [ "$(uptime)" -ge "$reload_at" ] || return 0
  systemctl reload nginx.service || true
  reload_at=$(($(uptime) + 30))
}

wait_for() {
  deadline=$(($(uptime) + 300))
  reload_at=$(($(uptime) + 10))
  name=$1
  set -- 1 5 25
  until certificate=$(ordered "$name") && [ "$certificate" = "$(served "$name")" ]; do
    [ "$(uptime)" -lt "$deadline" ] || give_up "$name" "no certificate within 300 s"
    if [ -n "$certificate" ]; then
      serve
    elif is_idle "acme-order-renew-$name.service"; then
      order_again "$name" "$@"
      shift
    fi
    sleep 0.5
  done
  echo "$name has its certificate"
}

main() {
  for name in $(jq -r '.names[]'); do
    wait_for "$name"
  done
}

main "$@"
