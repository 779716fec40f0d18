# $targets and $sources run side by side.
mkdir -p "$out"
# shellcheck disable=SC2086 # a list of store paths
set -- $sources
for target in $targets; do
	mkdir -p "$out/$(dirname "$target")"
	ln -s "$1" "$out/$target"
	shift
done
