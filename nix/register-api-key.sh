# Makes headscale accept the API key in $CREDENTIALS_DIRECTORY/api-key, and expires the one registered before it.
# Secrets go through stdin and this shell's own built-ins: the argument list of a process is public.

key=$(cat "$CREDENTIALS_DIRECTORY/api-key")
remembered=$STATE_DIRECTORY/api-key-prefix

fail() {
  echo "register-api-key: $*" >&2
  exit 1
}

# The API's answer to the key, as an HTTP status; 000 while headscale does not answer.
status() {
  printf 'Authorization: Bearer %s\n' "$key" |
    curl --silent --output /dev/null --write-out '%{http_code}' --max-time 10 -H @- "$API/api/v1/user" || true
}

# A deploy waits for headscale for 60 s, this unit for 100 s even if the clock steps; each look takes processor time from the
# start that it waits for.
wait_for_answer() {
  for look in {1..90}; do
    answer=$(status)
    [ "$answer" = 000 ] || return 0
    sleep "$((look <= 10 ? 0 : 1)).2"
  done
  fail "headscale does not answer at $API within 100 s"
}

# Neither the prefix nor the hash can hold a quote: they are of [A-Za-z0-9_-] and of bcrypt's base64 with $ and dots.
register() {
  hash=$(printf '%s' "$secret" | mkpasswd --stdin --method=bcrypt --rounds=10)
  sqlite3 -bail -cmd '.timeout 10000' "$DATABASE" <<SQL
insert into api_keys (prefix, hash, created_at) values ('$prefix', cast('$hash' as blob), datetime('now'))
on conflict (prefix) do update set hash = excluded.hash, expiration = null;
SQL
}

expire_former() {
  [ -s "$remembered" ] || return 0
  former=$(cat "$remembered")
  [ "$former" != "$prefix" ] || return 0
  # A restored database may not have it.
  [ "$(sqlite3 -cmd '.timeout 10000' "$DATABASE" "select count(*) from api_keys where prefix = '$former'")" != 0 ] ||
    return 0
  echo "expiring the former key $former"
  headscale apikeys expire --prefix "$former" || fail "the former key $former could not be expired"
}

[[ $key =~ ^hskey-api-([A-Za-z0-9_-]{12})-([A-Za-z0-9_-]{64})$ ]] ||
  fail "headscale_api_key is not of the form hskey-api-<12 characters>-<64 characters>; make a new one"
prefix=${BASH_REMATCH[1]}
secret=${BASH_REMATCH[2]}

wait_for_answer
if [ "$answer" != 200 ]; then
  [ "$prefix" != "$(cat "$remembered" 2>/dev/null)" ] ||
    echo "headscale does not know the key $prefix any more: it has another database"
  echo "registering the key $prefix"
  register
  answer=$(status)
  [ "$answer" = 200 ] || fail "headscale answers $answer to the key that was just registered"
fi
expire_former
printf '%s' "$prefix" >"$remembered"
