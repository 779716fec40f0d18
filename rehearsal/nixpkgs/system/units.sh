exec /usr/bin/python3 -I "$program" "$unitsPath" "$out"
