"""The operator's commands, and the measurements of this repository."""
