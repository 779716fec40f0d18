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

# The orders of one account wait for the first of them: what is told is why an order failed, not that one did not begin.
give_up() {
  unit=$(systemctl list-units --failed --plain --no-legend 'acme-order-renew-*' | cut -d ' ' -f 1 | head -n 1)
  unit=${unit:-acme-order-renew-$1.service}
  echo "certificates: $2 for $1; the last words of $unit were:" >&2
  journalctl -u "$unit" -n 8 -o cat | cut -c -500 >&2
  exit 1
}

# Waiting in the queue counts: orders run one after the other.
order_under_way() {
  systemctl list-jobs --plain --no-legend 'acme-order-renew-*' | grep -q .
}

# Of itself, an order that failed, or that did not begin because another one failed, is repeated the next day.
order_again() {
  tries=$((tries - 1))
  [ "$tries" -ge 0 ] || give_up "$1" "three more orders failed"
  echo "ordering the certificate for $1 once more"
  systemctl start "acme-order-renew-$1.service" || true
}

wait_for() {
  deadline=$(($(uptime) + 300))
  tries=3
  until certificate=$(ordered "$1") && [ "$certificate" = "$(served "$1")" ]; do
    [ "$(uptime)" -lt "$deadline" ] || give_up "$1" "no certificate within 300 s"
    [ -n "$certificate" ] || order_under_way || order_again "$1"
    sleep 0.5
  done
  echo "$1 has its certificate"
}

main() {
  for name in $(jq -r '.names[]'); do
    wait_for "$name"
  done
}

main "$@"
