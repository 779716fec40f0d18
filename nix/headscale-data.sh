# headscale-data save|stop|restore DIRECTORY PREVIOUS SYSTEM: the database of before a deploy from one system to another. A
# headscale does not understand what a later version made of its database. Stop and restore do nothing where the version is
# the same; restored is only what was saved, while headscale does not run.

directory=$2
version() {
  cat "$1/etc/headscale/version" 2>/dev/null || true
}

save() {
  rm -f "$directory/db.sqlite"
  [ -e "$DATABASE" ] || return 0
  sqlite3 "$DATABASE" ".timeout 10000" ".backup '$directory/db.sqlite'"
}

restore() {
  [ -e "$directory/db.sqlite" ] || return 0
  echo "restoring headscale's database of before the deploy"
  cp "$directory/db.sqlite" "$DATABASE.new"
  chown --reference="$DATABASE" "$DATABASE.new"
  chmod --reference="$DATABASE" "$DATABASE.new"
  rm -f "$DATABASE-wal" "$DATABASE-shm"
  mv "$DATABASE.new" "$DATABASE"
}

if [ "$1" = save ]; then
  save
elif [ "$(version "$3")" != "$(version "$4")" ]; then
  case $1 in
  stop) systemctl stop headscale.service ;;
  restore) restore ;;
  esac
fi
