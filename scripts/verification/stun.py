"""STUN as Tailscale's clients ask (RFC 5389): headscale's relay answers nobody else."""

import os
import socket
import struct
import zlib
from ipaddress import ip_address

from .report import once

PORT = 3478
TRIES, TIMEOUT = 3, 2.0
COOKIE = 0x2112A442
BINDING, SOFTWARE, XOR_MAPPED_ADDRESS, FINGERPRINT = 0x0001, 0x8022, 0x0020, 0x8028


@once
def own_address(server: str) -> str | None:
    """The address that the server sees this machine come from; None where it does not answer."""
    with socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM) as connection:
        connection.settimeout(TIMEOUT)
        for _ in range(TRIES):
            transaction = os.urandom(12)
            try:
                connection.sendto(request(transaction), (server, PORT))
                if address := mapped_address(connection.recv(2048), transaction):
                    return address
            except OSError:
                continue
    return None


def request(transaction: bytes) -> bytes:
    software = struct.pack("!HH", SOFTWARE, 8) + b"tailnode"
    message = struct.pack("!HHI", BINDING, len(software) + 8, COOKIE) + transaction + software
    return message + struct.pack("!HHI", FINGERPRINT, 4, zlib.crc32(message) ^ 0x5354554E)


def mapped_address(answer: bytes, transaction: bytes) -> str | None:
    """The address in an answer to this transaction; None in anything else."""
    if answer[8:20] != transaction:
        return None
    at = 20
    while at + 4 <= len(answer):
        kind, length = struct.unpack_from("!HH", answer, at)
        if kind == XOR_MAPPED_ADDRESS:
            return _unmask(answer[at + 8 : at + 4 + length], transaction)
        at += 4 + (length + 3) // 4 * 4
    return None


def _unmask(masked: bytes, transaction: bytes) -> str:
    mask = struct.pack("!I", COOKIE) + transaction
    address = ip_address(bytes(a ^ b for a, b in zip(masked, mask, strict=False)))
    # A socket that serves both families sees IPv4 addresses as IPv6 ones.
    return str(getattr(address, "ipv4_mapped", None) or address)
