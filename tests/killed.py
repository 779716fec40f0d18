"""Runs a module of Python that is killed before it does something that it was not yet killed before.

Started again and again with the same list of what that was, it comes further each time. What counts is what something
else could notice: to start a program, to open a file for writing, to make a directory, to rename and to remove.
"""

import os
import re
import runpy
import signal
import sys
from pathlib import Path

NOTICED = {"subprocess.Popen", "os.mkdir", "os.rename", "os.remove"}


def main(killed: Path, module: str, *arguments: str) -> None:
    before = killed.read_text().splitlines()

    def look(event: str, audited: tuple) -> None:
        # Another run makes other keys, and does the same with them.
        step = re.sub(r"age1\w+", "age1...", f"{event} {audited[:2]}")
        if (event in NOTICED or (event == "open" and writes(audited[2]))) and step not in before:
            os.write(listed, f"{step}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)

    listed = os.open(killed, os.O_WRONLY | os.O_APPEND)
    sys.argv = [module, *arguments]
    del sys.path[0]
    sys.dont_write_bytecode = True
    sys.addaudithook(look)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def writes(flags: object) -> bool:
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))


main(Path(sys.argv[1]), *sys.argv[2:])
