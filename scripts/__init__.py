"""The operator's commands, and the measurements of this repository."""

import sys

# An older Python could not even import the commands, and none of them could say so.
if sys.version_info < (3, 11):  # noqa: UP036
    raise SystemExit(f"scripts: {sys.executable} is Python {sys.version.split()[0]}; install Python 3.11 or newer")
