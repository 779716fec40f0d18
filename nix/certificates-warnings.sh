# certificates-warnings: prints a line for each certificate that ends within a week: its renewals have failed.

week=604800
for certificate in /var/lib/acme/*/cert.pem; do
  [ -e "$certificate" ] || continue
  ends() { ! openssl x509 -noout -checkend "$1" -in "$certificate" >/dev/null 2>&1; }
  name=$(basename "$(dirname "$certificate")")
  if ends "$week" && ! ends 0; then
    echo "the certificate for $name ends on $(openssl x509 -noout -enddate -in "$certificate" | cut -d = -f 2): \`journalctl --unit acme-order-renew-$name\` on the server says why it was not renewed, and \`systemctl start acme-order-renew-$name\` tries again"
  fi
done
