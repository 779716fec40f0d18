"""A process's accesses to files, by strace, and those that a profile allows, as apparmor_parser reads it."""

import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from server_image import ServerImage

FLAGS = {"O_RDONLY": "r", "O_WRONLY": "w", "O_RDWR": "rw"}
# The permission bits of compiled rules: the owner's, and fourteen bits above everybody else's.
BITS = {"x": 0x01, "w": 0x02, "r": 0x04, "k": 0x20, "m": 0x40}
CALLS = (
    (re.compile(r"execve\(\"([^\"]+)\".* = 0$"), "x"),
    (re.compile(r"mmap\(.*PROT_EXEC.*, \d+<(/[^>]*)>.* = 0x"), "m"),
    (re.compile(r"(?:flock|fcntl)\(\d+<(/[^>]*)>, (?:LOCK|F_SETLK|F_OFD_SETLK)"), "k"),
    (re.compile(r"connect\(.*sun_path=\"(/[^\"]+)\".* = 0$"), "rw"),
    (re.compile(r"bind\(.*sun_path=\"(/[^\"]+)\".* = 0$"), "w"),
)
OPENED = re.compile(r"^(?:open|openat|openat2|creat)\((.*)\) += \d+<(/[^>]*)>$")
CHANGED = re.compile(r"^(?:unlink|rename|mkdir|rmdir|chmod|fchmodat|chown|link|symlink|truncate)\w*\((.*) = 0$")

Use = tuple[str, str]


def bring_strace(server: ServerImage) -> tuple[str, ...]:
    """Lay this machine's strace and its libraries into the image; the command there, up to what it is to run."""
    program = shutil.which("strace")
    assert program is not None, "strace is not installed: scripts/install test brings it"
    linked = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    place = server.disk / "upper/strace"
    place.mkdir(parents=True, exist_ok=True)
    for file in [program, *re.findall(r"(/\S+) \(0x", linked)]:
        shutil.copy(file, place)
    (loader,) = (path.name for path in place.glob("ld-linux*"))
    return (f"/strace/{loader}", "--library-path", "/strace", "/strace/strace", "-D", "-ff", "-y", "-o")


def uses(lines: Iterable[str]) -> Iterator[Use]:
    """Each (path, permission) that succeeded, with paths as the kernel resolves them; a program's as it was called."""
    for line in lines:
        opened = OPENED.search(line)
        if opened is not None and "O_PATH" not in opened[1]:
            yield from ((opened[2], right) for flag, rights in FLAGS.items() if flag in opened[1] for right in rights)
        if changed := CHANGED.search(line):
            yield from ((path, "w") for path in re.findall(r"\"(/[^\"]*)\"", changed[1]))
        for pattern, rights in CALLS:
            if call := pattern.search(line):
                yield from ((call[1], right) for right in rights)


class Profile:
    """The file rules of a profile, each as a pattern and the bits that it grants; `silenced` are those it denies
    without a record."""

    def __init__(self, dumped: str) -> None:
        matches = re.findall(r"^rule: (\(?/.*?)  ->  .*?( deny)? \((0x[0-9a-f]+)/", dumped, re.MULTILINE)
        self.rules = [(re.compile(pattern), int(bits, 16)) for pattern, denied, bits in matches if not denied]
        self.silenced = {pattern for pattern, denied, _ in matches if denied}

    def allows(self, path: str, right: str) -> bool:
        # A directory that is read has a slash at its end in a rule, and none in what strace shows.
        granted = [bits for pattern, bits in self.rules if pattern.fullmatch(path) or pattern.fullmatch(f"{path}/")]
        return any((bits | bits >> 14) & BITS[right] for bits in granted)


def traced(directory: Path) -> Iterator[str]:
    for file in sorted(directory.iterdir()):
        yield from file.read_text(errors="replace").splitlines()
