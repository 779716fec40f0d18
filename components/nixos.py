"""Bring the configuration onto the server: become NixOS, push, deploy, confirm."""

import asyncio
import base64
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pulumi
from pulumi_command import remote

import policy

from .command import answer, command
from .ending import Refusal
from .host_facts import NOT_ASKED, HostFacts, Unreachable, read_host_facts
from .names import Names
from .server import Server

PROGRAM = Path(__file__).resolve().parent.parent
REMOTE = PROGRAM / "components" / "remote"
RECEIVE = (REMOTE / "receive.sh").read_text()
HOST_NOT_ASKED = (
    "host not asked (headscale:hostFacts is false): whether anything on it has drifted, and whether it has this "
    "configuration, is not known"
)
PURPOSES = {
    "convert": "builds a small NixOS on the server and reboots into it in Debian's place (minutes, once)",
    "booted": "waits until the server is back as NixOS (a minute or two)",
    "keys": "makes the server accept the configured SSH keys (seconds)",
    "push": "sends the Nix configuration and the SOPS file (seconds)",
    "deploy": "builds and activates the configuration, checks its services and rolls back if one fails (a minute; "
    "compiling what no binary cache has takes several more)",
    "confirm": "logs in over a new connection and makes the new system the boot default (seconds)",
}
SKIPPED = ("deployment.json", "policy.hujson", "secrets")


@dataclass(frozen=True, kw_only=True)
class NixosDeploymentArgs:
    """`deployment` becomes deployment.json, the two files take their places in the tree beside it.

    `names` are the names in it, known also before their records exist.
    """

    server: Server
    deployment: pulumi.Input[Mapping[str, Any]]
    names: Names
    policy_file: Path
    secrets_file: Path
    host_age_key: pulumi.Input[str]


class NixosDeployment(pulumi.ComponentResource):
    """The server runs exactly this configuration, confirmed over a connection made after it was activated."""

    Args = NixosDeploymentArgs
    generation: pulumi.Output[int]
    facts: pulumi.Output[HostFacts | Unreachable]

    def __init__(self, name: str, args: NixosDeploymentArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("headscale:index:NixosDeployment", name, None, opts)
        self._name, self._args = name, args
        if not args.server.host_facts:
            pulumi.log.info(HOST_NOT_ASKED, self)
        self._answers: dict[str, asyncio.Task[HostFacts | Unreachable]] = {}
        files = pulumi.Output.json_dumps(args.deployment).apply(self._files)
        convert = self._convert(files)
        booted = self._booted(convert)
        keys = self._keys(after=booted)
        if pulumi.runtime.is_dry_run():
            self._facts_at(args.server.present_address)
        facts = self._facts(keys)
        facts.apply(self._stay_in)
        # Without facts there is nothing to compare the host with.
        self._unless = None if args.server.host_facts else facts.apply(lambda facts: facts == NOT_ASKED)
        request = pulumi.Output.all(files=files, facts=facts, server_id=args.server.server_id).apply(_request)
        push = self._push(files, request, after=keys)
        deploy = self._step("deploy", request, after=push)
        # On a new connection: what shuts the operator out never becomes the boot default.
        confirm = self._step("confirm", request, after=deploy)
        # A host that could not be asked before the deploy can be asked after it, which no preview makes.
        final = pulumi.runtime.is_dry_run()
        self.facts = facts.apply(lambda now: now if final or isinstance(now, HostFacts) else self._facts(confirm))
        self.generation = answer(confirm)["generation"]
        self.register_outputs({"generation": self.generation})

    def _stay_in(self, facts: HostFacts | Unreachable) -> None:
        """Refuse a firewall that would shut out this very program, by its address as the host sees it."""
        server = self._args.server
        if isinstance(facts, HostFacts) and not server.admits(facts.seen_from):
            add = f"'headscale:adminNetworks[{len(server.admin_networks)}]' {ip_network(facts.seen_from)}"
            raise Refusal(
                f"headscale:adminNetworks leaves out {facts.seen_from}, from which this program reaches the server, so "
                f"that no later `pulumi up` would reach it. `pulumi config set --path {add}` adds it; "
                "`pulumi config set headscale:adminNetworksExcludeMe true` allows it"
            )

    def _tell(self, facts: HostFacts | Unreachable) -> None:
        """Tell the drift, headscale's verdict on the policy, what a change of names costs, who uses former ones."""
        if isinstance(facts, Unreachable):
            if facts.problem:
                pulumi.log.warn(facts.problem, self)
        else:
            if refusal := facts.verdict.refusal(facts.policy_changed):
                raise Refusal(refusal)
            drift = [f"drift: {fact}; the next `pulumi up` repairs it" for fact in facts.drift]
            # headscale comes with the first deploy.
            verdict = facts.verdict.warnings(facts.policy_changed) if facts.confirmed_digest else ()
            for warning in (*drift, *facts.warnings, *self._args.names.warnings(facts), *verdict):
                pulumi.log.warn(warning, self)
            for line in self._args.names.still_used(facts):
                pulumi.log.info(line, self)

    def _files(self, deployment: str) -> dict[str, bytes]:
        return nix_files() | {
            "deployment.json": deployment.encode(),
            "policy.hujson": self._args.policy_file.read_bytes(),
            "policy-without-tests.hujson": policy.without_tests(self._args.policy_file.read_text()).encode(),
            "secrets/headscale.yaml": self._args.secrets_file.read_bytes(),
        }

    def _convert(self, files: pulumi.Output[dict[str, bytes]]) -> remote.Command:
        script = (REMOTE / "become-nixos.sh").read_bytes()
        mark = f"{self._args.server.name}\n".encode()
        stdin = files.apply(lambda tree: bundle({"run.sh": script, "marker": mark, "tree.tar": tar(tree)}))
        # A server becomes NixOS once: only another server, or another script, asks for it again.
        triggers: list[pulumi.Input[str]] = [self._args.server.server_id, hashlib.sha256(script).hexdigest()]
        return self._once("convert", RECEIVE, stdin, triggers)

    def _booted(self, convert: remote.Command) -> remote.Command:
        """Dial until the converted server is back; Debian does not have the command."""
        return self._once("booted", "nixos-version", None, [convert.id])

    def _keys(self, after: remote.Command) -> remote.Command:
        """Make the server accept the configured keys, whichever it accepted before."""
        deploy_key, host_key = self._args.server.ssh_keys.deploy_key.public, self._args.server.ssh_keys.host_key
        public = {"run.sh": (REMOTE / "take-keys.sh").read_bytes(), "deploy-key.pub": f"{deploy_key}\n".encode()}
        stdin = host_key.private.apply(lambda private: bundle(public | {"host-key": private.encode()}))
        triggers: list[pulumi.Input[str]] = [self._args.server.server_id, deploy_key, host_key.public]
        return self._once("keys", RECEIVE, pulumi.Output.secret(stdin), triggers, after)

    def _push(
        self, files: pulumi.Output[dict[str, bytes]], request: pulumi.Output[str], after: remote.Command
    ) -> remote.Command:
        stdin = pulumi.Output.all(files=files, request=request, age_key=self._args.host_age_key).apply(_pushed)
        return self._run("push", RECEIVE, pulumi.Output.secret(stdin), after)

    def _step(self, step: str, request: pulumi.Output[str], after: remote.Command) -> remote.Command:
        return self._run(step, f"sh /etc/nixos/remote/{step}.sh", request, after)

    def _run(self, step: str, create: str, stdin: pulumi.Output[str], after: remote.Command) -> remote.Command:
        connection = self._args.server.connection
        return self._command(step, create, stdin, connection=connection, after=after, unless=self._unless)

    def _once(
        self,
        step: str,
        create: str,
        stdin: pulumi.Output[str] | None,
        triggers: Sequence[pulumi.Input[str]],
        after: remote.Command | None = None,
    ) -> remote.Command:
        connection = self._args.server.current_connection
        return self._command(step, create, stdin, connection=connection, after=after, triggers=triggers)

    def _command(self, step: str, create: str, stdin: pulumi.Output[str] | None, **more: Any) -> remote.Command:
        return command(f"{self._name}-{step}", create, stdin, purpose=PURPOSES[step], parent=self, **more)

    def _facts(self, after: remote.Command) -> pulumi.Output[HostFacts | Unreachable]:
        """The facts of the host; unknown in a preview before the server is NixOS."""
        # Without a stdout, the operator's `--target` left the step out.
        address = pulumi.Output.all(stdout=after.stdout, address=self._args.server.connection.host).apply(
            lambda outputs: "" if outputs["stdout"] is None else outputs["address"]
        )
        facts = self._facts_at(address)
        facts.apply(self._tell)
        return facts

    def _facts_at(self, address: pulumi.Output[str]) -> pulumi.Output[HostFacts | Unreachable]:
        connection, policy = self._args.server.connection, self._args.policy_file.read_text()
        question = pulumi.Output.all(
            address=address, private_key=connection.private_key, host_key=connection.host_key, policy=policy
        )
        facts: pulumi.Output[HostFacts | Unreachable] = question.apply(self._ask)
        return pulumi.Output.unsecret(facts)

    async def _ask(self, question: dict[str, Any]) -> HostFacts | Unreachable:
        """Ask the host: in a preview, in which nothing changes there, once and as soon as its address is known."""
        address = question["address"]
        if not self._args.server.host_facts or not address:
            return NOT_ASKED
        if not pulumi.runtime.is_dry_run():
            return await read_host_facts(**question)
        if address not in self._answers:
            self._answers[address] = asyncio.ensure_future(read_host_facts(**question))
        return await self._answers[address]


def _pushed(arguments: dict[str, Any]) -> str:
    """The bundle of the push."""
    return bundle(
        {
            "run.sh": (REMOTE / "push.sh").read_bytes(),
            "tree.tar": tar(arguments["files"]),
            # Not read on the host; it makes push run whenever deploy does.
            "request.json": arguments["request"].encode(),
            "age-key.txt": f"{arguments['age_key'].strip()}\n".encode(),
        }
    )


def _request(arguments: dict[str, Any]) -> str:
    """The stdin of deploy and confirm."""
    # The host does not read the server's id: with it, a server that took another's place is deployed to.
    request = deploy_request(tree_digest(arguments["files"]), arguments["facts"])
    return json.dumps(request | {"serverId": arguments["server_id"]})


def deploy_request(digest: str, facts: HostFacts | Unreachable) -> dict[str, str]:
    """The request to deploy: the tree's digest, and a token that is new when there is a reason.

    With the token that the host recorded at its last confirmed deploy, nothing is deployed. Any other token says why
    there is a deploy, and after how many, so that a second attempt never looks like the first.
    """
    if isinstance(facts, Unreachable):
        token = f"host not reached ({facts.asked_at})"
    elif facts.confirmed_digest == digest and not facts.drift:
        token = facts.confirmed_token
    else:
        changed = "configuration changed" if facts.confirmed_digest else "nothing deployed yet"
        reason = "; ".join(facts.drift) if facts.confirmed_digest == digest else changed
        token = f"{reason} (after deploy {facts.deploys_begun})"
    return {"digest": digest, "token": token}


def nix_files() -> dict[str, bytes]:
    """nix/ without its samples, and the scripts that run on the host, by their paths in /etc/nixos."""
    paths = (path for path in (PROGRAM / "nix").rglob("*") if path.is_file() and path.suffix != ".pyc")
    nix = {path.relative_to(PROGRAM / "nix"): path for path in paths}
    files = {str(at): path.read_bytes() for at, path in nix.items() if at.parts[0] not in SKIPPED}
    return files | {f"remote/{path.name}": path.read_bytes() for path in REMOTE.glob("*.sh")}


def tree_digest(files: Mapping[str, bytes]) -> str:
    """The SHA-256 of what `sha256sum` prints for the sorted paths, as remote/digest.sh computes it on the host."""
    lines = (f"{hashlib.sha256(files[path]).hexdigest()}  ./{path}\n" for path in sorted(files))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def tar(files: Mapping[str, bytes]) -> bytes:
    """A tar that depends on paths and contents alone; not compressed: zlib's output differs by version."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as members:
        for path in sorted(files):
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(files[path]), 0o600
            members.addfile(member, io.BytesIO(files[path]))
    return archive.getvalue()


def bundle(files: Mapping[str, bytes]) -> str:
    """Files for remote/receive.sh, which runs the one called run.sh; stdin of a Command is text."""
    return base64.b64encode(tar(files)).decode()
