#!/bin/sh
# Prints the state of the users and pre-auth keys that this stack made; changes nothing.
# stdout: {"admin": {"key": 7, "reason": "...", "state": "valid", "nodes": 2}, ...}: why the user's last key was made,
# and whether it is "valid", "expired" by its time, "used up", "revoked", "deleted" or "deleted with its user"; "unknown" where
# headscale does not answer.
# headscale 0.29 writes ids as numbers and times as seconds, 0.30 ids as strings and times as RFC 3339.
set -eu
state=/var/lib/headscale-bootstrap
export HEADSCALE_CLI_TIMEOUT=2s

# ask KIND: headscale's list of that kind as {KIND: [...]}, and nothing where it does not answer.
ask() {
  headscale "$1" list --output json 2>/dev/null | jq --arg kind "$1" '{($kind): (. // [])}' 2>/dev/null || true
}

records() {
  jq -n 'reduce inputs as $record ({}; .[input_filename | split("/")[-1]] = $record) | {records: .}' "$@"
}

main() {
  set -- "$state"/*
  [ -e "$1" ] || {
    echo '{}'
    return
  }
  {
    records "$@"
    ask users
    ask preauthkeys
    ask nodes
  } | jq -s --argjson now "$(date +%s)" '
    def state($record):
      if . == null then "deleted"
      elif .expiration < $record.expires then "revoked"
      elif .expiration <= $now then "expired"
      elif .used and (.reusable | not) then "used up"
      else "valid" end;
    # Users that came by OpenID Connect may have the same name; those have a provider.
    def own($user): .name == $user and (.provider // "") == "";
    def plain:
      .id |= tonumber |
      .expiration |= if type == "string" then sub("[.][0-9]+"; "") | fromdate else .seconds end;
    add as $answers
    | ($answers | has("users") and has("preauthkeys") and has("nodes")) as $complete
    | ($answers.preauthkeys // [] | map(plain)) as $keys
    | $answers.records
    | with_entries(.key as $user | .value |= {
        key,
        reason,
        state: (if $complete | not then "unknown"
          elif $answers.users | any(own($user)) | not then "deleted with its user"
          else . as $record | $keys | map(select(.id == $record.key and (.user | own($user))))[0] | state($record) end),
        nodes: ($answers.nodes // [] | map(select(.user | own($user))) | length)
      })'
}

main "$@" </dev/null
