"""Starting programs: one that must succeed, and one that runs for a while."""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


class Failed(subprocess.SubprocessError):
    """A command that had to succeed did not."""


def check(argv: Sequence[str], *, text: str = "") -> str:
    """Run a command that must succeed; the error says which, what it was given, and what it answered."""
    process = subprocess.run(argv, input=text, capture_output=True, text=True)
    if process.returncode != 0:
        stdin = f"\nIt was given:\n{text}" if text else ""
        raise Failed(f"{' '.join(argv)}: status {process.returncode}: {process.stderr.strip()}{stdin}")
    return process.stdout


@contextmanager
def daemon(
    argv: Sequence[str], *, log: Path | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs until the block ends; SIGTERM, and SIGKILL when that is not enough."""
    with open(log or "/dev/null", "ab") as output:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
