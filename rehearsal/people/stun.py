"""A STUN client that asks as Tailscale does (RFC 5389): headscale's DERP server answers nobody else."""

import os
import socket
import struct
import zlib
from ipaddress import ip_address

COOKIE = 0x2112A442
BINDING, SOFTWARE, XOR_MAPPED_ADDRESS, FINGERPRINT = 0x0001, 0x8022, 0x0020, 0x8028


def request(*, software: bytes = b"tailnode", fingerprint: bool = True) -> bytes:
    """A binding request; Tailscale's carries both attributes, each with a length that needs no padding."""
    body = _attribute(SOFTWARE, software) if software else b""
    transaction = os.urandom(12)
    if not fingerprint:
        return _header(len(body), transaction) + body
    message = _header(len(body) + 8, transaction) + body
    return message + _attribute(FINGERPRINT, struct.pack("!I", zlib.crc32(message) ^ 0x5354554E))


def ask(address: str, message: bytes, timeout: float) -> str | None:
    """The address that the server at `address` saw us come from; None when it does not answer in time."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ask:
        ask.settimeout(timeout)
        ask.sendto(message, (address, 3478))
        try:
            return _mapped_address(ask.recv(2048), message[8:20])
        except TimeoutError:
            return None


def _header(length: int, transaction: bytes) -> bytes:
    return struct.pack("!HHI", BINDING, length, COOKIE) + transaction


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("!HH", kind, len(value)) + value


def _mapped_address(answer: bytes, transaction: bytes) -> str:
    assert answer[8:20] == transaction, "the answer is to another request"
    at = 20
    while at < len(answer):
        kind, length = struct.unpack_from("!HH", answer, at)
        if kind == XOR_MAPPED_ADDRESS:
            return _unmask(answer[at + 8 : at + 4 + length], transaction)
        at += 4 + (length + 3) // 4 * 4
    raise AssertionError("the answer names no address")


def _unmask(masked: bytes, transaction: bytes) -> str:
    mask = struct.pack("!I", COOKIE) + transaction
    address = ip_address(bytes(a ^ b for a, b in zip(masked, mask, strict=False)))
    # A socket that serves both families sees IPv4 addresses as IPv6 ones.
    return str(getattr(address, "ipv4_mapped", None) or address)
