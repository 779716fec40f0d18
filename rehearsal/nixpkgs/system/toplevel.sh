mkdir -p "$out/bin"
ln -s "$etc" "$out/etc"
ln -s "$sw" "$out/sw"
printf '%s' "$release" >"$out/nixos-version"
printf '%s' "$kernelParams" >"$out/kernel-params"
printf '%s' "$inhibitors" >"$out/switch-inhibitors"
cp "$descriptionPath" "$out/description.json"
cp "$scriptsPath" "$out/activation-scripts"
# A container has neither; the conversion looks whether they are there, and the first deploy whether the kernel is another.
# Of stage 1 only the system's own commands are here: the rehearsal plays the rest.
ln -s "$kernel" "$out/kernel"
cp "$initrdPath" "$out/initrd"

program() {
	printf '#!/bin/sh\nexec /usr/bin/python3 -sEB %s/%s %s "$@"\n' "$programs" "$2" "$out" >"$out/$1"
	chmod 0755 "$out/$1"
}
program activate activate.py
program bin/switch-to-configuration switch.py
printf '#!/bin/sh\nexec /bin/sh %s/init.sh %s\n' "$programs" "$out" >"$out/init"
chmod 0755 "$out/init"
