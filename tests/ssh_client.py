"""Logs in as Pulumi's program does for the host's facts: `ssh_client.py PORT KEY HOST-KEY COMMAND`."""

import asyncio
import sys

import asyncssh


async def main(port: int, key: str, host_key: str, command: str) -> None:
    trusted = asyncssh.read_public_key(host_key)
    options = {"username": "root", "client_keys": [key], "known_hosts": ([trusted], [], []), "config": None}
    async with asyncssh.connect("127.0.0.1", port, **options) as connection:
        await connection.run(command, check=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), *sys.argv[2:5]))
