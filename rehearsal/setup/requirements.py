"""The rehearsal's requirements of the machine, and how to get what is missing; each check tries the thing itself.

Not looked at: whether package mirrors, module proxies and release downloads can be reached.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
REQUIREMENTS = HERE.parent.parent / "requirements.txt"
TUN = Path("/dev/net/tun")
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
PACKAGES = {
    "dnsmasq-base": ["dnsmasq"],
    "git": ["git"],
    "iproute2": ["ip"],
    "iputils-ping": ["ping"],
    "mmdebstrap": ["mmdebstrap"],
    "nftables": ["nft"],
    "openssh-client": ["ssh-keygen", "ssh-keyscan"],
    "openssl": ["openssl"],
    "pebble": ["pebble"],
    "procps": ["sysctl"],
    "systemd-container": ["systemd-nspawn"],
    "util-linux": ["mount", "nsenter", "setpriv", "unshare"],
}
NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--net", "--uts")
FIRST_TIME, LATER, MEMORY = 12.0, 1.0, 2.0


class Missing(NamedTuple):
    what: str
    remedy: str


def insist() -> None:
    """Refuse in one sentence where a rehearsal cannot run at all."""
    for what, remedy in _basics():
        raise SystemExit(f"The rehearsal cannot run here: {what}; {remedy}.")


def report() -> int:
    """Print everything that is missing; 1 if there is anything."""
    missing = list(_basics())
    if sys.platform == "linux":
        missing += [*_programs(), *_go(), *_python(), *_space()]
    if not missing:
        missing += _kernel()
    for what, remedy in missing:
        print(f"missing: {what}\n         {remedy}")
    print(f"{len(missing)} things are missing" if missing else "nothing is missing: `python -m rehearsal` can run")
    return 1 if missing else 0


def _basics() -> Iterator[Missing]:
    if sys.platform != "linux":
        yield Missing(f"it needs Linux and this is {sys.platform}", "use a virtual machine with Debian 12")
    elif os.geteuid() != 0:
        yield Missing("it makes namespaces, mounts and containers and needs root", "start it with sudo")
    elif not TUN.is_char_device():
        yield Missing(f"{TUN} is missing, which the devices' VPN needs", "`modprobe tun`, or give it to the container")


def _programs() -> Iterator[Missing]:
    for package, names in PACKAGES.items():
        for name in names:
            if not shutil.which(name, path=PATH):
                yield Missing(f"the program {name}", f"apt-get install {package}")
    if not Path("/etc/protocols").exists():
        yield Missing("/etc/protocols, without which nft knows no protocol's name", "apt-get install netbase")


def _go() -> Iterator[Missing]:
    files = sorted(HERE.parent.glob("go/*/go.mod"))
    expected = max(_numbers(line) for file in files for line in file.read_text().splitlines() if line.startswith("go "))
    text = ".".join(map(str, expected))
    if not shutil.which("go", path=PATH):
        yield Missing("the program go", f"install Go {text} or newer from https://go.dev/dl")
        return
    installed = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True).stdout.strip()
    if _numbers(installed) < expected:
        yield Missing(
            f"Go {text} (found {installed or 'one that does not start'})", "install it from https://go.dev/dl"
        )


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", text)))


def _python() -> Iterator[Missing]:
    if sys.hexversion < 0x030B0000:
        yield Missing(f"Python 3.11 (this is {sys.version.split()[0]})", "apt-get install python3")
    for pinned in REQUIREMENTS.read_text().split():
        name, version = pinned.split("==")
        installed = _version(name)
        if installed != version:
            remedy = f"use ./scripts/rehearse, which brings it, or {sys.executable} -m pip install -r requirements.txt"
            yield Missing(f"the Python package {pinned} (found {installed or 'none'})", remedy)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _space() -> Iterator[Missing]:
    place = next(path for path in (CACHE, *CACHE.parents) if path.exists())
    free, set_up = shutil.disk_usage(place).free / 1e9, any(CACHE.glob("headscale-rehearsal/programs-*"))
    needed = LATER if set_up else FIRST_TIME
    if free < needed:
        yield Missing(f"{needed:g} GB of disk (free on {place}: {free:.1f} GB)", "make room, or set XDG_CACHE_HOME")
    available = re.search(r"MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text())
    memory = int(available[1]) * 1024 / 1e9 if available else 0.0
    if memory < MEMORY:
        yield Missing(
            f"{MEMORY:g} GB of memory (available: {memory:.1f} GB)", "end other programs: disks are in memory"
        )


def _kernel() -> Iterator[Missing]:
    if problem := _tried("true"):
        yield Missing(f"namespaces ({problem})", "in a container: start it privileged")
        return
    for what, remedy in (
        ("overlay", "`modprobe overlay`; in a container: start it privileged"),
        ("links", "`modprobe veth`"),
        ("filter", "`modprobe -a nf_tables nft_ct nft_masq`"),
    ):
        if problem := _tried(str(HERE / "probe.sh"), what):
            yield Missing(f"the kernel's {what} ({problem})", remedy)
    yield from _control_groups()


def _tried(*command: str) -> str:
    """The output of a command that failed in namespaces of its own; empty if it worked."""
    argv = [*NAMESPACES, "--", *command]
    process = subprocess.run(argv, capture_output=True, text=True, env=os.environ | {"PATH": PATH})
    return (process.stderr.strip() or f"status {process.returncode}") if process.returncode else ""


def _control_groups() -> Iterator[Missing]:
    from rehearsal.sandbox import cgroups

    remedy = "mount cgroup2 there, writable; in a container: start it privileged and with a cgroup namespace of its own"
    if not cgroups.hierarchies():
        yield Missing(f"control groups at {cgroups.TOP}", remedy)
    try:
        cgroups.create(cgroups.own_name())
        cgroups.destroy(cgroups.own_name())
    except OSError as error:
        yield Missing(f"writable control groups ({error})", remedy)
