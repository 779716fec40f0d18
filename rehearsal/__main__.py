"""`python -m rehearsal`: the main job, or with a command, a rehearsal to live in."""

import argparse
import os
import sys
from pathlib import Path

from rehearsal.setup import requirements

SHELL = ["bash", "--norc"]
PLACES = "laptop, phone, server, or operator, where `pulumi` is ready to use"


def main() -> int:
    args = _parser().parse_args()
    if args.command == "check-machine":
        return requirements.report()
    requirements.insist()
    return _obey(args)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m rehearsal", description="Without a command: the main job.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("check-machine", help="name what this machine lacks for a rehearsal")
    commands.add_parser("up", help="start one in the background, with a laptop and a phone, and leave it running")
    shell = commands.add_parser("shell", help="a shell in it")
    run = commands.add_parser("run", help="one command in it")
    for command in (shell, run):
        command.add_argument("place", metavar="NAME", help=PLACES)
    run.add_argument("argv", metavar="COMMAND", nargs=argparse.REMAINDER)
    commands.add_parser("status", help="what lives, and since when")
    commands.add_parser("down", help="end it and remove everything")
    tell = commands.add_parser("tell", help="one story; without a command it is `main`")
    tell.add_argument("story", choices=_stories(), metavar="STORY", help=", ".join(_stories()))
    # What `up` starts; without help it is not listed.
    commands.add_parser("live").add_argument("lock", type=int)
    return parser


def _stories() -> list[str]:
    """Names of modules, read without importing them: on other systems than Linux they do not import."""
    return sorted(path.stem for path in Path(__file__).with_name("stories").glob("[a-z]*.py"))


def _obey(args: argparse.Namespace) -> int:
    # Not at the top: on other systems than Linux these do not even import, and `check-machine` could not say so.
    from rehearsal import job
    from rehearsal.living import commands as living
    from rehearsal.sandbox import capsule

    if capsule.inside() and os.getpid() != 1:
        raise SystemExit("This is inside a rehearsal already; leave it and try again outside.")
    match args.command:
        case None:
            return job.main()
        case "tell":
            return job.main(args.story)
        case "live":
            return job.live(args.lock)
        case "up":
            return living.up()
        case "shell":
            living.go(args.place, SHELL)
        case "run":
            living.go(args.place, _command(args.argv))
        case "status":
            return living.status()
        case _:
            return living.down()


def _command(argv: list[str]) -> list[str]:
    command = argv[1:] if argv[:1] == ["--"] else argv
    if not command:
        raise SystemExit("run: a command is missing; `shell` opens a shell")
    return command


if __name__ == "__main__":
    sys.exit(main())
