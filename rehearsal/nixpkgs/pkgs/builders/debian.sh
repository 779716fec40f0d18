# Links every program of the Debian packages in $names.
mkdir -p "$out/bin"
for name in $names; do
	while read -r program; do
		ln -sf "$program" "$out/bin/"
	done <"/usr/lib/rehearsal/debian/$name"
done
# Debian's alternatives and its kill from procps; NixOS has one of each, and kill in coreutils.
[ ! -e "$out/bin/ls" ] || ln -sf /usr/bin/kill "$out/bin/kill"
[ ! -e "$out/bin/mawk" ] || ln -sf /usr/bin/mawk "$out/bin/awk"
[ ! -e "$out/bin/bash" ] || ln -sf /usr/bin/bash "$out/bin/sh"
[ ! -e "$out/bin/python3" ] || ln -sf /usr/bin/python3 "$out/bin/python"
