"""The configuration's way onto the server: become NixOS, push, deploy, confirm."""

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

from .command import command
from .ending import Refusal
from .host_facts import HostFacts, Unreachable, read_host_facts
from .server import Server

PROGRAM = Path(__file__).resolve().parent.parent
REMOTE = PROGRAM / "components" / "remote"
RECEIVE = (REMOTE / "receive.sh").read_text()
SKIPPED = ("deployment.json", "policy.hujson", "secrets")


@dataclass(frozen=True, kw_only=True)
class NixosDeploymentArgs:
    """`deployment` becomes deployment.json, the two files take their places in the tree beside it."""

    name: str
    server: Server
    deployment: Mapping[str, pulumi.Input[Any]]
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
        self._args = args
        files = pulumi.Output.json_dumps(args.deployment).apply(self._files)
        convert = self._convert(f"{name}-convert", files)
        booted = self._booted(f"{name}-booted", convert)
        keys = self._keys(f"{name}-keys", after=booted)
        facts = self._facts(keys)
        facts.apply(self._stay_in)
        facts.apply(self._stay_on_this_machine)
        request = pulumi.Output.all(files=files, facts=facts, server_id=args.server.server_id).apply(_request)
        push = self._push(f"{name}-push", files, request, after=keys)
        deploy = self._step(f"{name}-deploy", "deploy.sh", request, after=push)
        # On a new connection: what shuts the operator out never becomes the boot default.
        confirm = self._step(f"{name}-confirm", "confirm.sh", request, after=deploy)
        # A host that could not be asked before the deploy can be asked after it, which no preview makes.
        final = pulumi.runtime.is_dry_run()
        self.facts = facts.apply(lambda now: now if final or isinstance(now, HostFacts) else self._facts(confirm))
        self.generation = confirm.stdout.apply(lambda text: json.loads(text)["generation"])
        self.register_outputs({"generation": self.generation})

    def _stay_in(self, facts: HostFacts | Unreachable) -> None:
        """Refuse a firewall that would keep out this very program; the host says from where it comes."""
        server = self._args.server
        if isinstance(facts, HostFacts) and not server.admits(facts.seen_from):
            add = f"'headscale:adminNetworks[{len(server.admin_networks)}]' {ip_network(facts.seen_from)}"
            raise Refusal(
                f"headscale:adminNetworks leaves out {facts.seen_from}, from which this program reaches the server, so "
                f"that no later `pulumi up` would reach it. `pulumi config set --path {add}` adds it; "
                "`pulumi config set headscale:adminNetworksExcludeMe true` says that it is meant"
            )

    def _stay_on_this_machine(self, facts: HostFacts | Unreachable) -> None:
        """Refuse a server type of another architecture, for which Hetzner would only shut the server down."""
        system = self._args.deployment["system"]
        if isinstance(facts, HostFacts) and system != f"{facts.machine}-linux":
            raise Refusal(
                f"headscale:serverType is one for {system}, and the server is {facts.machine}: Hetzner does not change "
                "one into the other. `pulumi config set headscale:serverType ...` names one of the same kind"
            )

    def _files(self, deployment: str) -> dict[str, bytes]:
        return nix_files() | {
            "deployment.json": deployment.encode(),
            "policy.hujson": self._args.policy_file.read_bytes(),
            "secrets/headscale.yaml": self._args.secrets_file.read_bytes(),
        }

    def _convert(self, name: str, files: pulumi.Output[dict[str, bytes]]) -> remote.Command:
        script = (REMOTE / "become-nixos.sh").read_bytes()
        mark = f"{self._args.name}\n".encode()
        stdin = files.apply(lambda tree: bundle({"run.sh": script, "marker": mark, "tree.tar": tar(tree)}))
        # A server becomes NixOS once: only another server, or another script, asks for it again.
        once_for: list[pulumi.Input[str]] = [self._args.server.server_id, hashlib.sha256(script).hexdigest()]
        return self._once(name, RECEIVE, stdin, once_for)

    def _booted(self, name: str, convert: remote.Command) -> remote.Command:
        """Dials until the converted server is back; Debian does not know the command."""
        return self._once(name, "nixos-version", None, [convert.id])

    def _keys(self, name: str, after: remote.Command) -> remote.Command:
        """From here on the server takes the configured keys, whichever it took before."""
        (_, deploy_key), (host_private, host_public) = self._args.server.deploy_key, self._args.server.host_key
        public = {"run.sh": (REMOTE / "take-keys.sh").read_bytes(), "deploy-key.pub": f"{deploy_key}\n".encode()}
        stdin = host_private.apply(lambda key: bundle(public | {"host-key": key.encode()}))
        once_for: list[pulumi.Input[str]] = [self._args.server.server_id, deploy_key, host_public]
        return self._once(name, RECEIVE, pulumi.Output.secret(stdin), once_for, after)

    def _push(
        self, name: str, files: pulumi.Output[dict[str, bytes]], request: pulumi.Output[str], after: remote.Command
    ) -> remote.Command:
        script = (REMOTE / "push.sh").read_bytes()
        stdin = pulumi.Output.all(files, request, self._args.host_age_key).apply(
            lambda known: bundle(
                {
                    "run.sh": script,
                    "tree.tar": tar(known[0]),
                    # Nobody reads it: with it, whatever is a reason to deploy is a reason to push.
                    "request.json": known[1].encode(),
                    "age-key.txt": f"{known[2].strip()}\n".encode(),
                }
            )
        )
        return self._run(name, RECEIVE, pulumi.Output.secret(stdin), after=after)

    def _step(self, name: str, script: str, request: pulumi.Output[str], after: remote.Command) -> remote.Command:
        return self._run(name, f"sh /etc/nixos/remote/{script}", request, after=after)

    def _run(self, name: str, create: str, stdin: pulumi.Output[str], after: remote.Command) -> remote.Command:
        return command(name, create, stdin, connection=self._args.server.connection, parent=self, after=after)

    def _once(
        self,
        name: str,
        create: str,
        stdin: pulumi.Output[str] | None,
        once_for: Sequence[pulumi.Input[str]],
        after: remote.Command | None = None,
    ) -> remote.Command:
        connection = self._args.server.connection_now
        return command(name, create, stdin, connection=connection, parent=self, after=after, once_for=once_for)

    def _facts(self, keys: remote.Command) -> pulumi.Output[HostFacts | Unreachable]:
        """What the host says of itself; unknown in a preview while there is no NixOS to ask."""
        connection = self._args.server.connection

        async def ask(arguments: list[Any]) -> HostFacts | Unreachable:
            return await read_host_facts(*arguments[1:])

        host = (connection.host, connection.private_key, connection.host_key)
        return pulumi.Output.unsecret(pulumi.Output.all(keys.stdout, *host).apply(ask))


def _request(arguments: dict[str, Any]) -> str:
    # The host does not read the server's id: with it, a server that took another's place is deployed to.
    request = deploy_request(tree_digest(arguments["files"]), arguments["facts"])
    return json.dumps(request | {"serverId": arguments["server_id"]})


def deploy_request(digest: str, facts: HostFacts | Unreachable) -> dict[str, str]:
    """What deploy and confirm get: the tree's digest, and a token that is new when there is a reason.

    The token that the host recorded with its last confirmed deploy means that nothing is to do. Any other
    says why, and after how many deploys, so that a second attempt never looks like the first.
    """
    if isinstance(facts, Unreachable):
        token = f"host not reached ({facts.since})"
    elif facts.confirmed_digest == digest and not facts.differs:
        token = facts.confirmed_token
    else:
        changed = "configuration changed" if facts.confirmed_digest else "nothing deployed yet"
        reason = facts.differs if facts.confirmed_digest == digest else changed
        token = f"{reason} (after deploy {facts.deploys_begun})"
    return {"digest": digest, "token": token}


def nix_files() -> dict[str, bytes]:
    """nix/ without its samples, and the scripts that run on the host, by their paths in /etc/nixos."""
    found = (path for path in (PROGRAM / "nix").rglob("*") if path.is_file() and path.suffix != ".pyc")
    nix = {path.relative_to(PROGRAM / "nix"): path for path in found}
    files = {str(at): path.read_bytes() for at, path in nix.items() if at.parts[0] not in SKIPPED}
    return files | {f"remote/{path.name}": path.read_bytes() for path in REMOTE.glob("*.sh")}


def tree_digest(files: Mapping[str, bytes]) -> str:
    """SHA-256 over what `sha256sum` prints for the sorted paths, as remote/digest.sh takes it on the host."""
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
