found=$(/usr/lib/rehearsal/bin/headscale version | head -n 1)
case "$found" in
*"v$asked"*) ;;
*)
	echo "headscale $asked is asked for, the rehearsal built: $found" >&2
	exit 1
	;;
esac
mkdir -p "$out/bin"
ln -s /usr/lib/rehearsal/bin/headscale "$out/bin/headscale"
