# Orders the certificate, or renews it when its time has come, and puts it where nginx reads it.
set -eu
common=(--accept-tos --path "$LEGO" --email "$EMAIL" --domains "$DOMAIN" --server "$SERVER" --key-type "$KEY_TYPE")
common+=(--http --http.webroot "$WEBROOT")
fullchain=$LEGO/certificates/$DOMAIN.crt

# A certificate of another server's is none of this one's.
if [ -e "$fullchain" ] && [ "$(cat "$LEGO/server")" = "$SERVER" ]; then
	lego "${common[@]}" renew --no-random-sleep --days 30 || exit 11
elif ! lego "${common[@]}" run; then
	echo "Failed to fetch certificates. This may mean your DNS records are set up incorrectly." >&2
	exit 10
fi
printf '%s' "$SERVER" >"$LEGO/server"

cd "$DIRECTORY"
if ! cmp -s "$fullchain" fullchain.pem; then
	echo "Installing new certificate"
	touch renewed
	cp "$fullchain" fullchain.pem
	cp "$LEGO/certificates/$DOMAIN.key" key.pem
	cp "$LEGO/certificates/$DOMAIN.issuer.crt" chain.pem
	ln -sf fullchain.pem cert.pem
	chmod 0640 ./*.pem
fi
touch acme-success
