"""The facts of the host, read over SSH while the program runs: a remote Command cannot just look."""

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import Any

from .ssh import connect
from .verdict import Verdict

REMOTE = Path(__file__).parent / "remote"
FACTS = REMOTE / "facts.sh", REMOTE / "drift.sh", REMOTE / "user-facts.sh"
JUDGE = REMOTE / "judge-policy.sh"
DEADLINE = 10.0
NO_ANSWER = f"no answer within {DEADLINE:.0f} s"


@dataclass(frozen=True, kw_only=True)
class UserFacts:
    """A user that the stack made: its pre-auth key's id, why it was made, its state; the number of the user's nodes.

    `state` is one of the words of remote/user-facts.sh.
    """

    key: int
    reason: str
    state: str
    nodes: int


@dataclass(frozen=True, kw_only=True)
class HostFacts:
    """The last confirmed deploy (empty strings before the first) and how many deploys have begun.

    `drift` lists the changes on the host since that deploy, `warnings` what else its operator should know: both in
    the words of remote/drift.sh. `users` are those that the stack made. `seen_from` is the address of this program as
    the host sees it. `names` are those that it serves, shaped like nix/deployment.json, and `devices` counts the ones
    connected by each name of headscale. `policy_changed` is true where another policy than the configured one is
    served; `verdict` is headscale's on the configured one.
    """

    confirmed_digest: str
    confirmed_token: str
    deploys_begun: int
    drift: Sequence[str] = ()
    warnings: Sequence[str] = ()
    seen_from: str
    names: Mapping[str, Any] = field(default_factory=dict)
    devices: Mapping[str, int] = field(default_factory=dict)
    policy_changed: bool = True
    verdict: Verdict = field(default_factory=Verdict)
    users: Mapping[str, UserFacts] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Unreachable:
    """The host did not answer when it was asked, at a time in UTC; `problem` is a sentence for the operator."""

    asked_at: str
    problem: str = ""


NOT_ASKED = Unreachable(asked_at="not asked")


async def read_host_facts(address: str, private_key: str, host_key: str, policy: str) -> HostFacts | Unreachable:
    """Run the scripts of FACTS on the host, which must show `host_key`, and have it judge a policy, within ten seconds.

    A host that cannot be asked is not an error: what is wrong in the cloud (say, a firewall that
    shuts the operator out) is repaired before the deploy tries again.
    """
    import asyncssh

    try:
        async with asyncio.timeout(DEADLINE):
            answer = await _ask(address, private_key, host_key, policy)
    except (OSError, asyncssh.Error, json.JSONDecodeError) as error:
        problem = (
            f"the server at {address} could not be asked over SSH: {str(error) or NO_ANSWER}. The clouds are compared "
            "without it, and the next `pulumi up` repairs them first and then deploys. `hcloud server list` shows "
            f"whether it is on, `ssh root@{address}` whether it lets you in"
        )
        return Unreachable(asked_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S"), problem=problem)
    return HostFacts(
        confirmed_digest=answer["confirmedDigest"],
        confirmed_token=answer["confirmedToken"],
        deploys_begun=answer["deploysBegun"],
        drift=answer["drift"],
        warnings=answer["warnings"],
        seen_from=answer["seenFrom"],
        names=answer["names"],
        devices=answer["devices"],
        policy_changed=answer["policyDigest"] != hashlib.sha256(policy.encode()).hexdigest(),
        verdict=Verdict(*answer["verdict"]),
        users={name: UserFacts(**facts) for name, facts in answer["users"].items()},
    )


async def _ask(address: str, private_key: str, host_key: str, policy: str) -> dict[str, Any]:
    async with connect(address, private_key, [host_key]) as connection:
        judge = f"sh -c {quote(JUDGE.read_text())} judge-policy /dev/stdin"
        deploys, drift, users, verdict = await asyncio.gather(
            *(connection.run("sh -s", input=path.read_text(), check=True) for path in FACTS),
            connection.run(judge, input=policy),
        )
    answer: dict[str, Any] = json.loads(str(deploys.stdout)) | json.loads(str(drift.stdout))
    words = " ".join(str(verdict.stdout).split())
    return answer | {"users": json.loads(str(users.stdout)), "verdict": (verdict.exit_status, words)}
