target=$out$destination
mkdir -p "$(dirname "$target")"
cp "$textPath" "$target"
[ -z "$executable" ] || chmod 0755 "$target"
