# register-api-key-again: after a switch, which registers only another API key: this one may have been expired by hand.

[ -z "$(api-key-drift)" ] || systemctl restart headscale-api-key.service
