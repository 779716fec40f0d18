#!/usr/bin/env bash
# drift-issue.sh REPORT: keeps one open issue with this text, and closes it where the report is empty.
# Needs gh with GH_TOKEN and GH_REPO. Without a report, the comparison did not begin, and nothing is known.
set -eu
report=$1
[ -e "$report" ] || exit 0
number=$(gh issue list --state open --label drift --limit 1 --json number --jq '.[].number')
if [ -s "$report" ] && [ -n "$number" ]; then
  gh issue edit "$number" --body-file "$report"
elif [ -s "$report" ]; then
  gh label create drift --force --description "What differs from the configuration" >/dev/null
  gh issue create --title "The stack is not as it should be" --label drift --body-file "$report"
elif [ -n "$number" ]; then
  gh issue close "$number" --comment "All is as configured."
fi
