# $targets and $sources run side by side; a source that ends in a pattern fills a directory.
mkdir -p "$out"
set -f
# shellcheck disable=SC2086 # a list of store paths
set -- $sources
set +f
for target in $targets; do
	mkdir -p "$out/$(dirname "$target")"
	case $1 in
	*\**)
		mkdir -p "$out/$target"
		# shellcheck disable=SC2086 # the pattern
		ln -s $1 "$out/$target/"
		;;
	*) ln -s "$1" "$out/$target" ;;
	esac
	shift
done
