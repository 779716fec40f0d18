mkdir -p "$out/bin"
ln -s "$etc" "$out/etc"
ln -s "$sw" "$out/sw"
printf '%s' "$release" >"$out/nixos-version"
printf '%s' "$kernelParams" >"$out/kernel-params"
printf '%s' "$inhibitors" >"$out/switch-inhibitors"
cp "$descriptionPath" "$out/description.json"
cp "$scriptsPath" "$out/activation-scripts"
# A container has neither; the conversion looks whether they are there.
echo "no kernel: the server is a container" >"$out/kernel"
echo "no initial ramdisk: the rehearsal plays stage 1" >"$out/initrd"

program() {
	printf '#!/bin/sh\nexec /usr/bin/python3 -sEB %s/%s %s "$@"\n' "$programs" "$2" "$out" >"$out/$1"
	chmod 0755 "$out/$1"
}
program activate activate.py
program bin/switch-to-configuration switch.py
printf '#!/bin/sh\nexec /bin/sh %s/init.sh %s\n' "$programs" "$out" >"$out/init"
chmod 0755 "$out/init"
