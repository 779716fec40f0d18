"""The looks of scripts/verify at a server from outside."""
