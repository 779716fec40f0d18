#!/bin/sh
# Prints the API key of the SOPS file, as it is on this host. stdout: {"key": "hskey-api-..."}
set -eu
jq --raw-input '{key: .}' /run/secrets/headscale_api_key
