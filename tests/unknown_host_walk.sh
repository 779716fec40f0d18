# unknown_host_walk.sh CONF: nginx runs with a configuration; prints for each way to call a host that is not ours how curl ends.
ask() {
	curl --globoff --silent --insecure --output /dev/null --max-time 5 --connect-to other.example.org::127.0.0.1: "$1"
	status=$?
}

nginx -c "$1" 2>/dev/null &
for _ in $(seq 200); do
	ask http://127.0.0.1/
	[ "$status" -eq 7 ] || break
	sleep 0.05
done
for address in 127.0.0.1 '[::1]' other.example.org; do
	for scheme in http https; do
		ask "$scheme://$address/"
		echo "$scheme $status"
	done
done
kill $!
