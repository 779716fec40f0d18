#!/bin/sh
# Says what became of the users and pre-auth keys that this stack made; changes nothing.
# stdout: {"admin": {"key": 7, "reason": "...", "state": "valid", "nodes": 2}, ...}: why the user's last key was made,
# and whether it is "valid", "expired" by its time, "used up", "revoked" or "deleted"; "unknown" without headscale's word.
set -eu
state=/var/lib/headscale-bootstrap
export HEADSCALE_CLI_TIMEOUT=2s

listed() {
  headscale preauthkeys list --output json && headscale nodes list --output json
}

main() {
  set -- "$state"/*
  [ -e "$1" ] || {
    echo '{}'
    return
  }
  {
    jq -n 'reduce inputs as $record ({}; .[input_filename | split("/")[-1]] = $record)' "$@"
    listed 2>/dev/null || true
  } | jq -s --argjson now "$(date +%s)" '
    def state($record):
      if . == null then "deleted"
      elif .expiration.seconds < $record.expires then "revoked"
      elif .expiration.seconds <= $now then "expired"
      elif .used and (.reusable | not) then "used up"
      else "valid" end;
    . as [$records, $keys, $nodes]
    | length as $answers
    | $records
    | with_entries(.key as $user | .value |= {
        key,
        reason,
        state: (if $answers < 3 then "unknown" else
          . as $record | $keys // [] | map(select(.id == $record.key and .user.name == $user))[0] | state($record) end),
        nodes: ($nodes // [] | map(select(.user.name == $user)) | length)
      })'
}

main "$@" </dev/null
