# headscale-warnings: prints what no deploy repairs: a headscale that runs and does not answer.

systemctl is-active --quiet headscale.service || exit 0
answer=$(curl -sS --max-time 3 "$HEALTH" 2>&1) || true
grep -q '"pass"' <<<"$answer" ||
  echo "headscale runs and is not healthy: $answer; \`journalctl --unit headscale\` on the server says why"
