# reload-policy: after a switch, which reloads headscale only for another policy of the configuration: headscale may have read
# one that somebody put in its place.

[ -e /run/headscale-policy.replaced ] || exit 0
systemctl try-reload-or-restart headscale.service
rm /run/headscale-policy.replaced
