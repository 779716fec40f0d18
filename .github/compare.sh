#!/usr/bin/env bash
# Compares $STACK with this checkout by scripts/nightly: the report goes to $RUNNER_TEMP/report.md and the job's summary.
# A difference is not a failure; that nothing could be compared is one, and leaves no report that is empty.
set -u
report=$RUNNER_TEMP/report.md
scripts/nightly --stack "$STACK" >"$report"
status=$?
tee -a "$GITHUB_STEP_SUMMARY" <"$report"
case $status in
0 | 7) [ -s "$report" ] || echo "The stack is as configured." ;;
*)
  [ -s "$report" ] || rm "$report"
  exit 1
  ;;
esac
