"""The small internet: namespaces joined by routed links, as at Hetzner; all addresses are for documentation.

The hub `inet` has no way out: what is not below is unreachable at once. The operator is the capsule's own
namespace, so its programs need no prefix.
Not modelled: latency, loss, bandwidth, IPv6 behind home routers (an office has it), private networks, Hetzner's
metadata service.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from rehearsal.sandbox.capsule import Run, write_etc
from rehearsal.sandbox.processes import check, daemon

HUB = "inet"
RESOLVER = "198.51.100.53"
GATEWAY4, GATEWAY6 = "198.51.100.1", "fe80::1"
SERVER_GATEWAY4 = "172.31.1.1"
FIRST_ROUTER = 101


@dataclass(frozen=True)
class Customer:
    """Somebody with one address of each family on a link to the hub, where the link has the same name."""

    name: str
    ipv4: str
    ipv6: str | None = None


OPERATOR = Customer("operator", "198.51.100.10", "2001:db8:1::10")
ACME = Customer("acme", "198.51.100.20", "2001:db8:1::20")

NATS: Mapping[str, tuple[str, str]] = {
    # What is added to `masquerade`, and what is dropped: a kept source port lets two devices find each other.
    "easy": ("", ""),
    "random": ("random", ""),
    "no-stun": ("", "udp dport 3478 drop"),
    # Of IPv4 only names: what else is dialled goes over IPv6.
    "ipv6": ("", f'iifname "lan" ip daddr != {RESOLVER} drop'),
}

HUB_RULES = """
table inet cloud {
    map inbound { type ifname : verdict; }
    map outbound { type ifname : verdict; }
    chain through {
        type filter hook forward priority filter; policy accept;
        ct state established,related accept
        iifname vmap @outbound
        oifname vmap @inbound
    }
}
"""

ROUTER_RULES = """
table ip nat {
    chain source_nat {
        type nat hook postrouting priority srcnat;
        oifname "wan" meta l4proto { tcp, udp } masquerade MODE
        oifname "wan" masquerade
    }
}
table inet filter {
    chain through {
        type filter hook forward priority filter; policy drop;
        DROPPED
        ct state established,related accept
        iifname "lan" accept
    }
    chain local_in {
        type filter hook input priority filter; policy drop;
        ct state established,related accept
        iifname { "lan", "lo" } accept
        meta l4proto { icmp, ipv6-icmp } accept
    }
}
"""


def ip(lines: str, namespace: str | None = None) -> None:
    check(["ip", *(["-n", namespace] if namespace else []), "-batch", "-"], text=lines)


def nft(rules: str, namespace: str) -> None:
    check([*within(namespace), "nft", "-f", "-"], text=rules)


def within(namespace: str) -> list[str]:
    """The words before a command that run it in the namespace; `ip netns exec` would also hide the cgroups."""
    return ["nsenter", f"--net=/run/netns/{namespace}"]


@contextmanager
def namespace(name: str, *, routes: bool = False) -> Iterator[str]:
    check(["ip", "netns", "add", name])
    try:
        ip("link set lo up", name)
        if routes:
            check([*within(name), "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"])
        yield name
    finally:
        check(["ip", "netns", "delete", name])


@contextmanager
def internet() -> Iterator[None]:
    """The hub, the resolver's address, and the operator attached to it."""
    ip("link set lo up")
    with namespace(HUB, routes=True):
        ip(f"addr add {RESOLVER}/32 dev lo", HUB)
        ip("route add unreachable default\nroute add unreachable ::/0", HUB)
        nft(HUB_RULES, HUB)
        write_etc("resolv.conf", f"nameserver {RESOLVER}\noptions timeout:2 attempts:2\n")
        with link(OPERATOR):
            yield


@contextmanager
def link(customer: Customer, *, place: str | None = None, device: str = "eth0") -> Iterator[None]:
    """Attach an ordinary customer: a host route in the hub, and there a gateway outside its own prefix."""
    near = f"netns {place}" if place else ""
    ip(f"link add {customer.name} netns {HUB} type veth peer name {device} {near}")
    try:
        _gateway(customer.name, GATEWAY4)
        _host_route(customer.name, f"{customer.ipv4}/32", customer.ipv6 and f"{customer.ipv6}/128")
        ip(f"link set {device} up\naddr add {customer.ipv4}/32 dev {device}", place)
        ip(f"route add default via {GATEWAY4} dev {device} onlink", place)
        if customer.ipv6:
            ip(f"addr add {customer.ipv6}/128 dev {device} nodad", place)
            ip(f"route add ::/0 via {GATEWAY6} dev {device} onlink", place)
        yield
    finally:
        check(["ip", "-n", HUB, "link", "delete", customer.name])


def _gateway(name: str, ipv4: str) -> None:
    ip(f"link set {name} up\naddr add {ipv4}/32 dev {name}\naddr add {GATEWAY6}/64 dev {name} nodad", HUB)


def _host_route(name: str, ipv4: str | None, ipv6: str | None) -> None:
    ip("\n".join(f"route add {prefix} dev {name}" for prefix in (ipv4, ipv6) if prefix), HUB)


@contextmanager
def home(name: str, number: int, nat: str) -> Iterator[str]:
    """A home network: a router with one public address, and behind it a namespace for one device."""
    router, device, lan = f"nat-{name}", f"dev-{name}", f"192.168.{number}"
    mode, dropped = NATS[nat]
    wan = Customer(router, f"198.51.100.{FIRST_ROUTER - 1 + number}")
    with namespace(router, routes=True), namespace(device), link(wan, place=router, device="wan"):
        nft(ROUTER_RULES.replace("MODE", mode).replace("DROPPED", dropped), router)
        ip(f"link add lan netns {router} type veth peer name eth0 netns {device}")
        ip(f"link set lan up\naddr add {lan}.1/24 dev lan", router)
        ip(f"link set eth0 up\naddr add {lan}.2/24 dev eth0\nroute add default via {lan}.1", device)
        yield device


@contextmanager
def office(name: str, number: int, devices: Sequence[str]) -> Iterator[list[str]]:
    """An office: a namespace for each device, with an IPv6 address of its own in the router's /64."""
    router, lan, prefix = f"nat-{name}", f"192.168.{number}", f"2001:db8:2:{number}:"
    mode, dropped = NATS["ipv6"]
    wan = Customer(router, f"198.51.100.{FIRST_ROUTER - 1 + number}")
    with namespace(router, routes=True), link(wan, place=router, device="wan"), ExitStack() as end:
        nft(ROUTER_RULES.replace("MODE", mode).replace("DROPPED", dropped), router)
        ip(f"addr add fe80::2/64 dev wan nodad\nroute add ::/0 via {GATEWAY6} dev wan onlink", router)
        ip(f"route add {prefix}:/64 via fe80::2 dev {router}", HUB)
        ip(f"link add lan type bridge\nlink set lan up\naddr add {lan}.1/24 dev lan", router)
        ip(f"addr add {GATEWAY6}/64 dev lan nodad\nroute add {prefix}:/64 dev lan", router)
        places = [end.enter_context(namespace(f"dev-{device}")) for device in devices]
        for host, place in enumerate(places, start=10):
            ip(f"link add port{host} netns {router} type veth peer name eth0 netns {place}")
            ip(f"link set port{host} master lan up", router)
            ip(f"link set eth0 up\naddr add {lan}.{host}/24 dev eth0\nroute add default via {lan}.1", place)
            ip(f"addr add {prefix}:{host:x}/64 dev eth0 nodad\nroute add ::/0 via {GATEWAY6} dev eth0", place)
        yield places


@contextmanager
def server_link(server: str, *, mac: str, ipv4: str | None, ipv6: str | None, run: Run) -> Iterator[str]:
    """A server's link, as at Hetzner: DHCP hands out a /32 and its gateway, the /64 is routed to it.

    Made for every boot, so that neither addresses nor firewall rules of the server outlive it.
    """
    with namespace(server):
        ip(f"link add {server} netns {HUB} type veth peer name eth0 address {mac} netns {server}")
        try:
            _gateway(server, SERVER_GATEWAY4)
            _host_route(server, ipv4 and f"{ipv4}/32", ipv6)
            with dhcp(server, mac=mac, ipv4=ipv4, run=run):
                yield server
        finally:
            # The kernel removes a deleted namespace's links some time later; the next boot needs the name.
            check(["ip", "-n", HUB, "link", "delete", server])


@contextmanager
def dhcp(server: str, *, mac: str, ipv4: str | None, run: Run) -> Iterator[None]:
    # The shared network is the trick: the interface's own address lies outside the pool, as at Hetzner.
    config = f"""
        port=0
        interface={server}
        bind-interfaces
        except-interface=lo
        user=root
        dhcp-authoritative
        dhcp-leasefile={run.directory("dhcp")}/{server}
        log-facility={run.directory("logs")}/dhcp-{server}.log
        dhcp-range={ipv4},static,255.255.255.255,24h
        shared-network={server},{ipv4}
        dhcp-host={mac},{ipv4},infinite
        dhcp-option=option:netmask,255.255.255.255
        dhcp-option=option:router,{SERVER_GATEWAY4}
        dhcp-option=option:classless-static-route,{SERVER_GATEWAY4}/32,0.0.0.0,0.0.0.0/0,{SERVER_GATEWAY4}
        dhcp-option=option:dns-server,{RESOLVER}
    """
    if ipv4 is None:
        yield
        return
    path = run.directory("dhcp") / f"{server}.conf"
    path.write_text(config.replace("        ", ""))
    with daemon([*within(HUB), "dnsmasq", "--keep-in-foreground", f"--conf-file={path}"]):
        yield
