# The real release when set-up could fetch it, checked by its hash; otherwise stand-in pages with its traits.
release=/usr/lib/rehearsal/headscale-ui
if [ ! -d "$release" ]; then
	cp -r "$unpacked" "$out"
	exit
fi
found=$(nix hash path --type sha256 --sri "$release")
if [ "$found" != "$hash" ]; then
	echo "hash mismatch of $url: specified $hash, got $found" >&2
	exit 1
fi
cp -r "$release" "$out"
