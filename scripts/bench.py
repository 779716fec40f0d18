"""The time of a preview without changes, against that of an empty program.

In one world, with the server deployed, previews of both programs alternate; the empty one is a copy of this project in
which __main__.py has no line. Parts of the difference have measurements of their own: imports in fresh interpreters,
the host's facts over SSH alone, provider plugins without the engine. What is left is the engine, what it asks of the
providers, and the program itself. Clouds and server are on this machine: no distance is in any figure.
"""

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from subprocess import PIPE

from components.host_facts import HostFacts, read_host_facts
from rehearsal import plugins
from rehearsal.job import say
from rehearsal.operator.keys import public_key
from rehearsal.operator.stack import NAME, PROGRAM, Stack
from rehearsal.sandbox import capsule
from rehearsal.world import World, prepare, world

FEWEST, LARGEST_RATIO = 5, 2.0
IMPORTED = "config, components, asyncssh"
IMPORT = f"import pulumi, time; start = time.perf_counter(); import {IMPORTED}; print(time.perf_counter() - start)"
PREVIEW = ("preview", "--suppress-progress", "--color", "never", "--expect-no-changes", "--stack", NAME)


@dataclass(frozen=True)
class BenchedProgram:
    """A program whose stack is up to date: a preview that finds something to change ends the bench."""

    directory: Path
    environment: dict[str, str]
    flags: tuple[str, ...] = ()

    def preview(self) -> float:
        """Seconds from the command to its end."""
        start = time.perf_counter()
        self.pulumi(*PREVIEW, *self.flags)
        return time.perf_counter() - start

    def pulumi(self, *arguments: str) -> None:
        command = ["pulumi", "--non-interactive", *arguments]
        process = subprocess.run(command, cwd=self.directory, env=self.environment, capture_output=True, text=True)
        if process.returncode:
            output = process.stdout + process.stderr
            raise SystemExit(f"{' '.join(command)} in {self.directory} ended with {process.returncode}:\n{output}")


@dataclass(frozen=True)
class Figures:
    """Medians in seconds, over `rounds` measurements each."""

    rounds: int
    empty: float
    ours: float
    imports: float
    facts: float
    hcloud: float
    stand_ins: float

    @property
    def ratio(self) -> float:
        return self.ours / self.empty

    @property
    def rest(self) -> float:
        return self.ours - self.empty - self.imports - self.facts - self.hcloud - self.stand_ins

    @property
    def ratio_without_stand_ins(self) -> float:
        """As if the providers that are ours began in no time; what the official ones take is not known here."""
        return (self.ours - self.stand_ins) / self.empty

    def table(self) -> str:
        lines = (
            (self.empty, "s  preview of an empty program"),
            (self.ours, "s  preview of this program"),
            (self.ratio, f"   times as long; wanted: at most {LARGEST_RATIO}"),
            (self.ratio_without_stand_ins, "   times as long, if the two stand-ins for providers started in no time"),
            (self.imports, f"s  of it: importing {IMPORTED}"),
            (self.facts, "s  of it: the host's facts over SSH"),
            (self.hcloud, "s  of it: beginning and ending provider hcloud, twice"),
            (self.stand_ins, "s  of it: beginning and ending the other two providers, twice"),
            (self.rest, "s  of it: the rest of engine, providers and program"),
        )
        return "\n".join(f"{figure:7.2f} {what}" for figure, what in lines)

    def json(self) -> str:
        derived = ("ratio", "ratio_without_stand_ins", "rest")
        figures = asdict(self) | {name: getattr(self, name) for name in derived}
        return json.dumps({name: round(figure, 3) for name, figure in figures.items()})


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="What a preview without changes costs.")
    parser.add_argument("--rounds", type=int, default=7, help=f"previews of each program, at least {FEWEST}")
    rounds = parser.parse_args().rounds
    if rounds < FEWEST:
        parser.error(f"--rounds {rounds} is too few for a median; give at least {FEWEST}")
    if not capsule.inside():
        prepare(say)
    return bench(capsule.enter(), rounds)


def bench(run: capsule.Run, rounds: int) -> int:
    with world(run, prepare(say), say) as everything:
        everything.stack.up()
        say(f"measuring, {rounds} times each")
        figures = measure(everything, rounds)
    print(f"\nmedians of {rounds}, nothing to change:\n{figures.table()}\n\n{figures.json()}", flush=True)
    return 0


def measure(world: World, rounds: int) -> Figures:
    ours, empty = product(world.stack), empty_program(world.run.directory("empty"), world.stack)
    previews = alternate([empty.preview, ours.preview], rounds)
    hcloud, stand_ins = plugin_seconds(world.stack, "hcloud"), plugin_seconds(world.stack, "command", "cloudflare")
    parts = alternate([import_seconds, facts_seconds(world), hcloud, stand_ins], rounds)
    return Figures(rounds, *map(median, [*previews, *parts]))


def alternate(measurements: Sequence[Callable[[], float]], rounds: int) -> list[list[float]]:
    """Each measurement's figures, taken in turns. The first turn, which fills the disk's cache, does not count."""
    turns = [[measurement() for measurement in measurements] for _ in range(rounds + 1)]
    return [list(figures) for figures in zip(*turns[1:], strict=True)]


def product(stack: Stack) -> BenchedProgram:
    return BenchedProgram(PROGRAM, stack.environment, ("--config-file", str(stack.config_file)))


def empty_program(directory: Path, stack: Stack) -> BenchedProgram:
    """With the same configuration and a state of its own; the engine looks at a project's git repository too."""
    project, state = directory / "project", directory / "state"
    shutil.copytree(PROGRAM, project, ignore=shutil.ignore_patterns("__pycache__", ".venv"), symlinks=True)
    (project / "__main__.py").write_text("")
    state.mkdir()
    program = replace(
        product(stack), directory=project, environment=stack.environment | {"PULUMI_BACKEND_URL": f"file://{state}"}
    )
    program.pulumi("stack", "init", NAME)
    program.pulumi("up", "--yes", "--skip-preview", "--stack", NAME, *program.flags)
    return program


def import_seconds() -> float:
    """Seconds of the program's imports beyond pulumi, in an interpreter of its own."""
    command = [sys.executable, "-c", IMPORT]
    return float(subprocess.run(command, cwd=PROGRAM, check=True, capture_output=True, text=True).stdout)


def facts_seconds(world: World) -> Callable[[], float]:
    address = world.stack.outputs()["serverIpv4"]
    host_key = public_key(world.secrets.ssh_host_key)
    policy = (PROGRAM / "nix/policy.hujson").read_text()

    def once() -> float:
        start = time.perf_counter()
        facts = asyncio.run(read_host_facts(address, world.secrets.deploy_key, host_key, policy))
        assert isinstance(facts, HostFacts), f"the server at {address} did not tell its facts: {facts}"
        return time.perf_counter() - start

    return once


def plugin_seconds(stack: Stack, *names: str) -> Callable[[], float]:
    """The engine begins each plugin for the resources it remembers, and once more for those of the program."""
    home = Path(stack.environment["PULUMI_HOME"])
    programs = [plugins.program(home, name) for name in names]

    def once() -> float:
        start = time.perf_counter()
        for program in programs * 2:
            _begin_and_end(program, stack.environment)
        return time.perf_counter() - start

    return once


def _begin_and_end(plugin: Path, environment: dict[str, str]) -> None:
    # No engine listens there: a plugin dials it when it has something to say.
    with subprocess.Popen([plugin, "127.0.0.1:9"], env=environment, text=True, stdout=PIPE, stderr=PIPE) as process:
        port = process.stdout.readline() if process.stdout else ""
        process.terminate()
    assert port.strip().isdecimal(), f"{plugin} printed {port!r} instead of its port"


if __name__ == "__main__":
    sys.exit(main())
