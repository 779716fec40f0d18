echo "$LANTERN" >"$STATE_DIRECTORY/flame"
