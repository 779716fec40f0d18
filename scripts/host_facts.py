"""Ask a server what has drifted on it, with the facts key: no Pulumi, no cloud, no other secret.

The key is `pulumi config get factsKey`; what anyone can do with it is to read these facts.
Status 0: nothing has drifted. 7: something has. 1: the server could not be asked.
"""

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import Any

try:
    import asyncssh

    from components.ssh import connect
except ImportError as lacking:
    raise SystemExit(
        f"scripts/host-facts: {sys.executable} lacks the module {lacking.name}; `pulumi install` installs it"
    ) from None

DEADLINE = 20.0
DRIFT = 7


def main() -> int:
    parser = argparse.ArgumentParser(
        "scripts/host-facts", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("address", help="the server's, as of `pulumi stack output serverIpv4`")
    parser.add_argument("--key", type=Path, required=True, help="file with the facts key")
    parser.add_argument("--host-key", type=Path, required=True, help="file with the server's public SSH host key")
    parser.add_argument("--json", action="store_true", help="print the facts as JSON")
    arguments = parser.parse_args()
    try:
        facts = asyncio.run(ask(arguments.address, arguments.key.read_text(), arguments.host_key.read_text()))
    except (OSError, asyncssh.Error, asyncssh.KeyImportError, json.JSONDecodeError) as problem:
        why = str(problem) or f"no answer within {DEADLINE:.0f} s"
        raise SystemExit(f"scripts/host-facts: asking {arguments.address}: {why}") from None
    print(json.dumps(facts) if arguments.json else "\n".join(lines(facts)))
    return DRIFT if facts["drift"] else 0


async def ask(address: str, key: str, host_key: str) -> dict[str, Any]:
    """The facts, as remote/host-facts.sh prints them; the server runs that script whatever it is told."""
    async with asyncio.timeout(DEADLINE), connect(address, key, [host_key]) as connection:
        process = await connection.run("", check=True)
    answer: dict[str, Any] = json.loads(str(process.stdout))
    return answer


def lines(facts: dict[str, Any]) -> list[str]:
    drift = [f"drift: {line}; the next `pulumi up` repairs it" for line in facts["drift"]]
    return drift + [f"warning: {line}" for line in facts["warnings"]] or ["nothing has drifted on the server"]


if __name__ == "__main__":
    sys.exit(main())
