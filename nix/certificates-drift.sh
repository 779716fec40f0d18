# certificates-drift: prints a line for each certificate that has ended, whose renewals have failed for weeks.

for certificate in /var/lib/acme/*/cert.pem; do
  [ -e "$certificate" ] || continue
  openssl x509 -noout -checkend 0 -in "$certificate" >/dev/null 2>&1 ||
    echo "the certificate for $(basename "$(dirname "$certificate")") has ended"
done
