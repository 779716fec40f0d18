#!/usr/bin/env bash
# Compares $STACK with this checkout by scripts/nightly: the report goes to $RUNNER_TEMP/report.md and the job's summary.
# Fails where the stack could not be compared; a difference is not a failure.
set -u
report=$RUNNER_TEMP/report.md
scripts/nightly --stack "$STACK" >"$report"
status=$?
tee -a "$GITHUB_STEP_SUMMARY" <"$report"
[ -s "$report" ] || echo "The stack is as configured."
[ "$status" = 0 ] || [ "$status" = 7 ]
