mkdir -p "$out/bin"
for package in $packages; do
	[ ! -d "$package/bin" ] || ln -sf "$package"/bin/* "$out/bin/"
done
