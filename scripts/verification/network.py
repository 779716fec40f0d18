"""DNS records, TCP ports, SSH's host key and STUN."""

import asyncio
from enum import Enum

import asyncssh
import dns.exception
import dns.resolver

from components import ssh

from . import stun
from .report import NotChecked, Wrong, once
from .target import Target, require_route

SSH = 22
WEB = {80, 443}
# The ports of common services, and those on which headscale and its neighbours listen inside.
OTHERS = {
    *(21, 23, 25, 53, 110, 111, 139, 143, 389, 445, 465, 587, 631, 873, 993, 995, 1433, 1521, 2049, 2222, 2375, 2376),
    *(3000, 3306, 3389, 3478, 5000, 5432, 5900, 6379, 6443, 8000, 8080, 8085, 8443, 8888, 9000, 9090, 9100, 9200),
    *(10250, 11211, 27017, 41641, 50443),
}
PATIENCE = 3.0


class Login(Enum):
    WELL, CLOSED, ANOTHER_HOST, REFUSED = range(4)


def record(target: Target, name: str, kind: str) -> str:
    """The record leads to the server, and to nothing else."""
    expected = target.ipv4 if kind == "A" else target.ipv6
    answer = _resolve(target, name, kind)
    addresses = {item.to_text() for item in answer.rrset or ()}
    if (alias := str(answer.canonical_name).rstrip(".")) != name:
        raise Wrong(f"is an alias of {alias}; `pulumi preview` names the foreign record")
    if expected not in addresses:
        raise Wrong(
            f"leads to {', '.join(sorted(addresses))}, not to {expected}: the record was changed, or Cloudflare's "
            "proxy is on, behind which headscale does not work; `pulumi up` repairs it"
        )
    if foreign := addresses - {expected}:
        raise Wrong(
            f"leads to {', '.join(sorted(foreign))} as well, which is not this stack's; `pulumi preview` names the "
            "record with the command that deletes it"
        )
    return expected


def _resolve(target: Target, name: str, kind: str) -> dns.resolver.Answer:
    resolver = dns.resolver.Resolver(configure=target.resolver is None)
    if target.resolver:
        resolver.nameservers = [target.resolver]
    resolver.lifetime = 10
    asked = ", ".join(map(str, resolver.nameservers))
    try:
        return resolver.resolve(name + ".", kind)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        raise Wrong(f"{asked} has no such record; `pulumi up` makes it, and resolvers learn it in a while") from None
    except dns.exception.DNSException as problem:
        raise NotChecked(f"asking {asked}: {problem}; `--resolver ADDRESS` asks another") from None


def ports(target: Target, address: str) -> str:
    """Exactly SSH, for whom it is meant, and the web's ports are open."""
    require_route(address)
    is_open = asyncio.run(_open(address)) | (set() if log_in(target, address) is Login.CLOSED else {SSH})
    admitted = target.admits_ssh(address)
    expected = WEB | ({SSH} if admitted or (admitted is None and SSH in is_open) else set())
    if closed := expected - is_open:
        raise Wrong(
            f"{_list(closed)} does not answer: a firewall, or this address is banned (docs/access.md); `pulumi "
            "preview` names a firewall that was changed"
        )
    if more := is_open - expected:
        raise Wrong(f"{_list(more)} is open as well; `pulumi preview` names a firewall that was changed")
    return f"{_list(is_open)} and none of {len(OTHERS)} others"


async def _open(address: str) -> set[int]:
    async def is_open(port: int) -> bool:
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(address, port), PATIENCE)
        except OSError:
            return False
        writer.close()
        return True

    asked = sorted(WEB | OTHERS)
    answers = await asyncio.gather(*map(is_open, asked))
    return {port for port, answer in zip(asked, answers, strict=True) if answer}


@once
def log_in(target: Target, address: str) -> Login:
    """Log in as `pulumi up` does, and run nothing: sshd and fail2ban count any other connection as an attack."""

    async def connect() -> None:
        async with asyncio.timeout(2 * PATIENCE), ssh.connect(address, target.deploy_key, target.host_keys):
            pass

    try:
        asyncio.run(connect())
    except asyncssh.HostKeyNotVerifiable:
        return Login.ANOTHER_HOST
    except asyncssh.Error:
        return Login.REFUSED
    except OSError:
        return Login.CLOSED
    return Login.WELL


def logs_in(target: Target, address: str) -> str:
    """The host key is the stack's, and the deploy key opens."""
    login = log_in(target, address)
    if login is Login.CLOSED:
        if target.admits_ssh(address) is False:
            raise NotChecked("closed to this machine, which is not in headscale:adminNetworks")
        raise NotChecked("does not answer; see the open ports")
    if login is Login.ANOTHER_HOST:
        raise Wrong(f"shows another host key than the stack's: find out who answers at {address} before anything else")
    if login is Login.REFUSED:
        raise Wrong("refuses the deploy key; `pulumi up` brings a new one, docs/access.md says how without any")
    return "the stack's host key, and the deploy key opens"


def answers_stun(target: Target, address: str) -> str:
    require_route(address)
    own = stun.own_address(address)
    if own is None:
        raise Wrong(
            f"UDP {stun.PORT} does not answer: devices find no direct paths. A firewall, or headscale does not run: "
            "`pulumi preview` names both"
        )
    return f"saw this machine as {own}"


def _list(ports: set[int]) -> str:
    return f"TCP {', '.join(map(str, sorted(ports)))}"
