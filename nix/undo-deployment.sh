# undo-deployment RUNNING: ends the deploy that waits to be confirmed, where RUNNING is the system that runs from now on. Where
# that is not the deployed one, each service's data of before come back; none of these services must be running. A system on
# trial, which had to be booted, goes on waiting. Run again after a crash, it begins again.

state=/var/lib/deployment
pending=$state/pending.json

[ -e "$pending" ] || exit 0
running=$(readlink -f "$1")
system=$(jq -r .system "$pending")
if [ "$running" = "$system" ] && [ -e "$state/trial" ]; then
  exit 0
fi
if [ "$running" != "$system" ]; then
  [ -e "$state/reason" ] || echo "the server was rebooted before the deploy was confirmed" >"$state/reason"
  for data in "$system"/etc/deployment/data/*; do
    [ ! -x "$data" ] || "$data" restore "$state/before" "$(jq -r .previous "$pending")" "$system"
  done
fi
rm -f "$state/trial" "$pending"
