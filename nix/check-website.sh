# Checks that NGINX answers for NAME at PAGE. Its certificate is not looked at: before the first order it is NGINX's own.
# 403: only some networks may open the page.

curl -sSk --max-time 5 -o /dev/null -w '%{http_code}\n' --resolve "$NAME:443:127.0.0.1" "https://$NAME$PAGE" | grep -E '200|403'
