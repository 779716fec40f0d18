#!/bin/sh
# Hands out the API key of the SOPS file, as it lies on this host. stdout: {"key": "hskey-api-..."}
set -eu
jq --raw-input '{key: .}' /run/secrets/headscale_api_key
