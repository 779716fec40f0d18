sqlite3 "$DATABASE" "insert or ignore into users (id, name) values (999, 'later')"
