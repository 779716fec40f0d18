"""The internet of a run: links, names, the certificate authority, Hetzner's firewall."""
