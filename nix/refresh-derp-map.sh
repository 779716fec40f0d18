# Replaces the DERP map $MAP by what $SOURCE says today, which $CONVERTER must accept. An attempt lasts $PATIENCE seconds at most.
curl --fail --silent --show-error --proto =https --retry 2 --max-time "$PATIENCE" --max-filesize 1M \
  --output "$MAP.fetched" "$SOURCE"
python3 "$CONVERTER" "$MAP" <"$MAP.fetched" >"$MAP.new"
sync "$MAP.new"
mv "$MAP.new" "$MAP"
