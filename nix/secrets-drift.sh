# secrets-drift: prints a line for each secret whose owner or mode is not what was deployed; SECRETS is a file of lines OWNER MODE PATH.

while read -r owner mode path; do
  current=$(stat -L -c '%U, mode %04a' "$path" 2>/dev/null) || current=nobody
  [ "$current" = "$owner, mode $mode" ] || echo "$path belongs to $current, not to $owner, mode $mode"
done <"$SECRETS"
