"""A whole life of a stack, and no secret where it must not be; then a leak of each kind, and each is found.

Named exemptions: user_data holds the SSH host key; the operator's own environment holds tokens and passphrase; Pulumi
gives its Python program the configuration in an environment variable; the join command that a person types on a device
holds a pre-auth key. Not looked into: what Pulumi says with its flags for debugging (`--debug`, `--logtostderr`, and
`--event-log`, by which these stories learn what was done), since they show every value.
"""

import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

from rehearsal.operator import keys
from rehearsal.operator.edits import laid_over, open_for_edits
from rehearsal.operator.leaks import Visible, Watch, files_with, secrets_in
from rehearsal.sandbox.wait import eventually
from rehearsal.server.machines import CONSOLE
from rehearsal.story import Story

TALKATIVE = ("--diff", "--show-config", "--show-replacement-steps", "--show-sames")
ON_SERVER = ("boot", "etc", "home", "nix", "old-root", "opt", "root", "run", "srv", "tmp", "var")
# What holds a secret on the server, as it should: the pattern of its path, the secret, the mode.
EXPECTED = (
    (r"/run/secrets\.d/\d+/headscale_api_key", "API key", 0o400),
    (r"/run/secrets\.d/\d+/headscale_noise_private_key", "noise key", 0o400),
    (r"/var/lib/sops-nix/key\.txt", "host's age key", 0o600),
    (r"/etc/ssh/ssh_host_ed25519_key", "SSH host key", 0o600),
)
OPERATORS_OWN = {"Hetzner token", "Cloudflare token", "passphrase"}
CONFIGURED = {"deploy key", "facts key", "SSH host key", "host's age key"}
CONFIGURED |= {f"former {name}" for name in CONFIGURED}


class Place(NamedTuple):
    """Somewhere a secret could be: `look` says what is found there, `leak` puts a secret there while it lasts."""

    what: str
    look: Callable[[], list[str]]
    leak: Callable[[str], AbstractContextManager[None]]


class Secrets(Story):
    """up, a change, a deploy that fails, init and every rotation, destroy: all under watch."""

    def tell(self) -> None:
        open_for_edits(self.world.run)
        self.world.stack.flags = TALKATIVE
        self.watch = Watch()
        on_server = [
            Place("the server's files, the Nix store among them", self.in_files, self.leak_into_file),
            Place("the modes of the files that hold secrets", self.in_modes, self.leak_by_mode),
            Place("the server's journal", self.in_journal, self.leak_into_journal),
            Place("user_data", self.in_user_data, self.leak_into_user_data),
        ]
        with_operator = [
            Place("the arguments of all processes", self.in_arguments, self.leak_into_arguments),
            Place("the environment of all processes", self.in_environment, self.leak_into_environment),
            Place("the state and its backups", self.in_state, self.leak_into_state),
            Place(
                "all that the engine prints and records, with every flag that makes it say more",
                self.in_output,
                self.leak_into_output,
            ),
            Place("the operator's files", self.in_operators_files, self.leak_into_operators_file),
        ]
        with self.watch:
            self.live()
            self.nothing_in(on_server)
            assert self.watch.processes > 1000, f"only {self.watch.processes} processes were watched"
            self.world.stack.destroy()
        self.nothing_in(with_operator)
        self.up()
        self.each_leak_is_found([*on_server, *with_operator])
        self.world.stack.destroy()

    def live(self) -> None:
        self.up()
        former = self.known()
        with self.joined("laptop"), self.report.step("a change, a deploy that fails, a new key of every kind"):
            self.world.stack.set("extraRecords", "grafana.ts.example.org 100.64.0.9", as_list=True)
            self.world.stack.up()
            with laid_over("no-evaluation"):
                self.world.stack.up(expect=1)
            self.renew_keys()
            self.world.stack.preview("--diff")
        self.former = {f"former {name}": key for name, key in former.items() if key not in self.known().values()}

    def renew_keys(self) -> None:
        stack = self.world.stack
        for key in ("deploy-key", "host-key", "age-key"):
            stack.rotate(key)
            stack.up()
        self.world.drop_secret("headscale_api_key")
        stack.make_secrets()
        stack.set("preauthKeySerial", "2")
        stack.up()
        self.world.secrets, self.outputs = keys.keys_of(stack), stack.outputs()

    def nothing_in(self, places: list[Place]) -> None:
        self.secrets = self.known() | self.former
        for place in places:
            with self.report.step(f"no secret in {place.what}") as line:
                leaked = place.look()
                assert leaked == [], f"{len(leaked)} found: {leaked[:5]}"
                line.note = f"{len(self.secrets)} secrets looked for"

    def each_leak_is_found(self, places: list[Place]) -> None:
        for place in places:
            with (
                self.report.step(f"a secret put into {place.what} is found") as line,
                place.leak(self.secrets["API key"]),
            ):
                leaked = place.look()
                assert leaked, "nothing was found"
                line.note = "; ".join(leaked[:3])

    def known(self) -> dict[str, str]:
        """Every secret of the stack, or the part of it that no other text has, by name."""
        own, settings = self.world.secrets, self.world.stack.environment
        return {
            "API key": own.api_key,
            "noise key": own.noise_key.removeprefix("privkey:"),
            "host's age key": own.host_age_key,
            # What a private key's lines have in common with no other key stands in the last full one.
            "deploy key": own.deploy_key.splitlines()[-3],
            "facts key": own.facts_key.splitlines()[-3],
            "SSH host key": own.ssh_host_key.splitlines()[-3],
            "pre-auth key": self.outputs["preauthKey"],
            "Hetzner token": settings["HCLOUD_TOKEN"],
            "Cloudflare token": settings["CLOUDFLARE_API_TOKEN"],
            "passphrase": settings["PULUMI_CONFIG_PASSPHRASE"],
        }

    def root(self) -> Path:
        return Path(f"/proc/{self.world.machines[self.world.server_id].leader()}/root")

    def on_server(self) -> Iterator[tuple[str, str, int]]:
        """Path, secret and mode of everything on the server's disk and in its memory that holds a secret."""
        root = self.root()
        for path, names in files_with(self.secrets, [root / name for name in ON_SERVER]).items():
            inside = "/" + str(path.relative_to(root))
            yield from ((inside, name, path.stat().st_mode & 0o777) for name in names)

    def in_files(self) -> list[str]:
        return [f"{path}: {name}" for path, name, _ in self.on_server() if expected_mode(path, name) is None]

    def in_modes(self) -> list[str]:
        matches = ((path, mode, expected_mode(path, name)) for path, name, mode in self.on_server())
        return [f"{path}: {mode:o}" for path, mode, expected in matches if expected is not None and mode & ~expected]

    def in_journal(self) -> list[str]:
        # What somebody else put there need not be text.
        command = [*self.world.machines.shell(self.world.server_id), "journalctl", "--output", "export", "--all"]
        journal = subprocess.run(command, env=CONSOLE, capture_output=True, check=True).stdout
        return sorted(secrets_in(journal, self.secrets))

    def in_user_data(self) -> list[str]:
        (server,) = self.world.hetzner.project.servers.values()
        return sorted(secrets_in(server.user_data.encode(), self.secrets) - {"SSH host key", "former SSH host key"})

    def in_arguments(self) -> list[str]:
        return self.visible("arguments")

    def in_environment(self) -> list[str]:
        return self.visible("environment")

    def visible(self, what: str) -> list[str]:
        leaks = {visible: names - exempt(visible) for visible, names in self.watch.found(self.secrets).items()}
        return [
            f"{visible.side}: {sorted(names)}" for visible, names in leaks.items() if names and visible.what == what
        ]

    def in_state(self) -> list[str]:
        return named(files_with(self.secrets, [self.world.stack.directory / "state"]))

    def in_output(self) -> list[str]:
        lines = ((line, secrets_in(line.encode(), self.secrets)) for line in self.world.stack.printed)
        return [f"{sorted(names)} in a line that begins {line[:90]!r}" for line, names in lines if names]

    def in_operators_files(self) -> list[str]:
        run = self.world.run
        leaked = files_with(self.secrets, [run.path / name for name in ("logs", "pulumi", "stack", "tmp")])
        return named({path: names for path, names in leaked.items() if not path.name.startswith("events-")})

    @contextmanager
    def leak_into_file(self, secret: str) -> Iterator[None]:
        self.world.host.attempt(["tee", "/tmp/leak"], text=f"key = {secret}\n")
        self.world.host.run("nix-store", "--add", "/tmp/leak")
        self.world.host.run("rm", "/tmp/leak")
        yield

    @contextmanager
    def leak_by_mode(self, _: str) -> Iterator[None]:
        self.world.host.run("chmod", "0644", "/run/secrets/headscale_api_key")
        yield
        self.world.host.run("chmod", "0400", "/run/secrets/headscale_api_key")

    @contextmanager
    def leak_into_journal(self, secret: str) -> Iterator[None]:
        self.world.host.attempt(["systemd-cat"], text=f"using {secret}\n")
        eventually(self.in_journal, "the journal to be written", 5)
        yield

    @contextmanager
    def leak_into_user_data(self, secret: str) -> Iterator[None]:
        (server,) = self.world.hetzner.project.servers.values()
        before, server.user_data = server.user_data, f"{server.user_data}\n# {secret}"
        yield
        server.user_data = before

    @contextmanager
    def leak_into_arguments(self, secret: str) -> Iterator[None]:
        self.watched("arguments", [secret], {})
        yield

    @contextmanager
    def leak_into_environment(self, secret: str) -> Iterator[None]:
        self.watched("environment", [], {"LEAK": secret})
        yield

    def watched(self, what: str, arguments: list[str], environment: dict[str, str]) -> None:
        """A process on the server that lives until it was seen."""
        shell = [*self.world.machines.shell(self.world.server_id), "sh", "-c", "read -r line", *arguments]
        with (
            Watch() as self.watch,
            subprocess.Popen(shell, stdin=subprocess.PIPE, env=CONSOLE | environment) as process,
        ):
            eventually(lambda: any("server" in leaked for leaked in self.visible(what)), "the process to be seen", 10)
            process.communicate(b"\n")

    @contextmanager
    def leak_into_state(self, secret: str) -> Iterator[None]:
        """A copy of the state from before Pulumi knew the value as a secret."""
        copy = self.world.stack.directory / "state" / "copy.json"
        copy.write_text(secret)
        yield
        copy.unlink()

    @contextmanager
    def leak_into_output(self, secret: str) -> Iterator[None]:
        """Something that a command prints of its own."""
        self.world.stack.printed.append(f"{secret}\n")
        yield
        self.world.stack.printed.remove(f"{secret}\n")

    @contextmanager
    def leak_into_operators_file(self, secret: str) -> Iterator[None]:
        self.world.run.directory("tmp").joinpath("forgotten").write_text(secret)
        yield


def expected_mode(path: str, secret: str) -> int | None:
    """The widest mode that a file with this secret may have; None where it must not be."""
    fitting = (mode for pattern, name, mode in EXPECTED if name == secret and re.fullmatch(pattern, path))
    return next(fitting, None)


def exempt(visible: Visible) -> set[str]:
    """The secrets that a process may show, because a person or Pulumi gives it in this way."""
    if visible.side == "operator" and visible.what == "environment":
        return OPERATORS_OWN | (CONFIGURED if b"PULUMI_CONFIG=" in visible.text else set())
    if visible.side == "operator" and b"--auth-key" in visible.text:
        return {"pre-auth key", "former pre-auth key"}
    return set()


def named(leaked: Mapping[Path, set[str]]) -> list[str]:
    return [f"{path}: {', '.join(sorted(names))}" for path, names in leaked.items()]
