#!/bin/sh
# Runs a Command's text on its bundle twice: the connection of the first is lost, the second sees the end of the work.
set -eu
cd "$(dirname "$0")"
touch /run/first-boot

setsid sh receive.sh <bundle >first.log 2>&1 &
until grep -q "waiting for cloud-init" first.log; do sleep 0.1; done
kill -9 "-$!"

sh receive.sh <bundle >second.log 2>&1 &
until grep -q "under way already" second.log; do sleep 0.1; done
rm /run/first-boot
wait "$!"
cat second.log
