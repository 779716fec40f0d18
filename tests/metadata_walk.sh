# metadata_walk.sh RULESET: under these rules, how curl ends for root and for nobody who ask a metadata service.
ask() {
	setpriv --reuid="$1" --clear-groups curl --silent --output /dev/null --max-time 2 http://169.254.169.254/
	status=$?
}

nft -f "$1"
ip address add 169.254.169.254/32 dev lo
python3 -m http.server --bind 169.254.169.254 --directory /run 80 >/dev/null 2>&1 &
for _ in $(seq 200); do
	ask 0
	[ "$status" -eq 7 ] || break
	sleep 0.05
done
echo "root $status"
ask 65534
echo "nobody $status"
kill $!
