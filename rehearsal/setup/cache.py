"""The cache of set-up, under the user's cache directory: each thing is named by the content of its inputs."""

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headscale-rehearsal"

UNUSED = 3 * 24 * 3600.0


def digest(inputs: Iterable[Path | str]) -> str:
    """The first 16 hex digits of the SHA-256 over strings and files; a directory counts with all files below it."""
    total = hashlib.sha256()
    for item in inputs:
        for part in _files(item) if isinstance(item, Path) else [item.encode()]:
            total.update(len(part).to_bytes(8, "big") + part)
    return total.hexdigest()[:16]


def _files(path: Path) -> Iterable[bytes]:
    for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
        yield str(file.relative_to(path)).encode()
        yield file.read_bytes()


def cached(name: str, inputs: Iterable[Path | str], make: Callable[[Path], None]) -> Path:
    """Return the directory that `make` fills, calling it only when these inputs have not been made before.

    `make` gets an empty directory that becomes visible under its final name only when it returned, so what an
    interrupted set-up left is never used. Two runs at once make a thing once: the second waits.
    """
    ROOT.mkdir(parents=True, exist_ok=True)
    target = ROOT / f"{name}-{digest(inputs)}"
    with open(ROOT / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            work = Path(tempfile.mkdtemp(prefix=f"{name}-unfinished-", dir=ROOT))
            try:
                make(work)
                work.chmod(0o755)
                work.rename(target)
            except BaseException:
                shutil.rmtree(work, ignore_errors=True)
                raise
        os.utime(target)
        _prune(name)
    return target


def _prune(name: str) -> None:
    """Remove what a run left that was killed, and what earlier versions made and nobody has used for a while.

    Call it with the lock held: nobody else is at work then.
    """
    for entry in ROOT.glob(f"{name}-*"):
        killed = re.fullmatch(rf"{name}-unfinished-.*", entry.name)
        if killed or (re.fullmatch(rf"{name}-[0-9a-f]{{16}}", entry.name) and _age(entry) > UNUSED):
            shutil.rmtree(entry, ignore_errors=True)


def _age(path: Path) -> float:
    return time.time() - path.stat().st_mtime
