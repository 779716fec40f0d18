# Until an order has succeeded once, a certificate that nobody trusts lets nginx start.
set -eu
cd "$DIRECTORY"
if [ -e acme-success ]; then
	exit 0
fi
openssl req -quiet -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 90 \
	-subj "/CN=self-signed" -addext "subjectAltName=DNS:$DOMAIN" -keyout key.pem -out cert.pem
cp cert.pem chain.pem
cp cert.pem fullchain.pem
chmod 0640 ./*.pem
