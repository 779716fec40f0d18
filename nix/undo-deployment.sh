# undo-deployment SYSTEM: ends the deploy that waits to be confirmed; from now on SYSTEM runs. A headscale that went
# before another version started has its database of then back: it does not understand what a later version made of it.
# headscale must not be running. Run again after a crash, it begins anew.

state=/var/lib/deployment
pending=$state/pending.json
database=/var/lib/headscale/db.sqlite

put_database_back() {
  cp "$state/before.sqlite" "$database.new"
  chown --reference="$database" "$database.new"
  chmod --reference="$database" "$database.new"
  rm -f "$database-wal" "$database-shm"
  mv "$database.new" "$database"
}

other_headscale() {
  [ "$(jq -r '.headscale.before == .headscale.after' "$pending")" != true ]
}

[ -e "$pending" ] || exit 0
if [ "$(readlink -f "$1")" != "$(jq -r .system "$pending")" ]; then
  [ -e "$state/reason" ] || echo "the server was rebooted before the deploy was confirmed" >"$state/reason"
  if other_headscale && [ -e "$state/before.sqlite" ]; then
    echo "putting the database of before the deploy back"
    put_database_back
  fi
fi
rm "$pending"
