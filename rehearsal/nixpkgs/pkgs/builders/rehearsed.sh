# Links programs that the rehearsal built or wrapped.
mkdir -p "$out/bin"
for program in $programs; do
	test -x "/usr/lib/rehearsal/bin/$program"
	ln -s "/usr/lib/rehearsal/bin/$program" "$out/bin/"
done
