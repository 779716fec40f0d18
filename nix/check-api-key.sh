# Checks that headscale knows the API key of the SOPS file. Status 2 where its registration has failed.

state=$(systemctl show -P SubState headscale-api-key.service)
[ "$state" != exited ] || exit 0
echo "headscale-api-key.service is $state; it said last:"
journalctl --unit headscale-api-key.service --lines 5 --output cat | cut -c -300
[ "$state" != failed ] || exit 2
exit 1
