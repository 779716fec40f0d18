"""What the host says of itself, read over SSH while the program runs: a remote Command cannot only look."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pulumi

SCRIPT = Path(__file__).parent / "remote" / "facts.sh"
USERS_SCRIPT = SCRIPT.with_name("user-facts.sh")
DEADLINE = 10.0


@dataclass(frozen=True, kw_only=True)
class UserFacts:
    """A user that the stack made: its pre-auth key's id, why it was made, what became of it, and the user's nodes.

    `state` is one of the words of remote/user-facts.sh.
    """

    key: int
    reason: str
    state: str
    nodes: int


@dataclass(frozen=True, kw_only=True)
class HostFacts:
    """The last confirmed deploy (empty strings before the first) and how many deploys have begun.

    `differs` says what is no longer as that deploy left it; empty when all is. `users` are those that the stack made.
    `seen_from` is the address that this program has for the host, `machine` the host's architecture as Linux calls it.
    """

    confirmed_digest: str
    confirmed_token: str
    deploys_begun: int
    differs: str
    seen_from: str
    machine: str
    users: Mapping[str, UserFacts] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Unreachable:
    """The host did not answer; `since` is the time (UTC) of the attempt."""

    since: str


async def read_host_facts(address: str, private_key: str, host_key: str) -> HostFacts | Unreachable:
    """Run remote/facts.sh and remote/user-facts.sh on the host, which must show `host_key`, within ten seconds.

    A host that cannot be asked is a warning, not an error: what is wrong in the cloud (say, a firewall that
    shuts the operator out) is repaired before the deploy tries again.
    """
    import asyncssh

    try:
        async with asyncio.timeout(DEADLINE):
            answer = await _ask(address, private_key, host_key)
    except (OSError, asyncssh.Error, json.JSONDecodeError) as error:
        pulumi.log.warn(
            f"reading the facts of {address} over SSH: {type(error).__name__} {error}; "
            "the next `up` repairs the cloud's side and then deploys"
        )
        return Unreachable(since=datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S"))
    return HostFacts(
        confirmed_digest=answer["confirmedDigest"],
        confirmed_token=answer["confirmedToken"],
        deploys_begun=answer["deploysBegun"],
        differs=answer["differs"],
        seen_from=answer["seenFrom"],
        machine=answer["machine"],
        users={name: UserFacts(**facts) for name, facts in answer["users"].items()},
    )


async def _ask(address: str, private_key: str, host_key: str) -> dict[str, Any]:
    import asyncssh

    async with asyncssh.connect(
        address,
        username="root",
        client_keys=[asyncssh.import_private_key(private_key)],
        known_hosts=([asyncssh.import_public_key(host_key)], [], []),
        config=None,
    ) as connection:
        scripts = (path.read_text() for path in (SCRIPT, USERS_SCRIPT))
        results = await asyncio.gather(*(connection.run("sh -s", input=text, check=True) for text in scripts))
    deploys: dict[str, Any]
    deploys, users = (json.loads(str(result.stdout)) for result in results)
    return deploys | {"users": users}
