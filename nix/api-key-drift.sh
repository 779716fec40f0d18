# api-key-drift: prints a line where headscale does not accept the API key of the SOPS file. Without an answer, it prints none.

status=$(
  sed 's/^/Authorization: Bearer /' "$KEY" |
    curl --silent --output /dev/null --write-out '%{http_code}' --max-time 3 -H @- "$API/api/v1/user"
) || true
[ "$status" != 401 ] || echo "headscale does not accept the API key of the SOPS file"
