"""A small internet on one Linux machine in which the real program is run for real. See README.md beside this file."""
