"""mDNS answers written by hand, sent by multicast on the loopback interface."""

import asyncio
import secrets
import socket
import struct
from collections.abc import Iterable

from zeroconf._protocol.incoming import DNSIncoming

LOOPBACK = ["127.0.0.1"]
TTL = 120

_PTR, _A, _AAAA, _SRV, _TXT = 12, 1, 28, 33, 16
_IN, _FLUSH = 0x0001, 0x8001


def unique_service_type() -> str:
    """A type nobody else on this computer browses for or announces."""
    return f"_t{secrets.token_hex(6)}._tcp.local."


def labels(name: str | Iterable[bytes]) -> bytes:
    """A name on the wire; given as bytes, its labels may hold anything."""
    parts = [part.encode() for part in name.rstrip(".").split(".")] if isinstance(name, str) else name
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


def pointer(service_type: str, target: bytes, ttl: int = TTL) -> bytes:
    return _record(labels(service_type), _PTR, _IN, ttl, target)


def place(owner: bytes, port: int, host: bytes, ttl: int = TTL) -> bytes:
    return _record(owner, _SRV, _FLUSH, ttl, struct.pack("!HHH", 0, 0, port) + host)


def address(host: bytes, ip: str, ttl: int = TTL) -> bytes:
    if ":" in ip:
        return _record(host, _AAAA, _FLUSH, ttl, socket.inet_pton(socket.AF_INET6, ip))
    return _record(host, _A, _FLUSH, ttl, socket.inet_aton(ip))


def text(owner: bytes, content: bytes, ttl: int = TTL) -> bytes:
    return _record(owner, _TXT, _FLUSH, ttl, content)


def answer(*records: bytes) -> bytes:
    """A whole authoritative answer."""
    return struct.pack("!6H", 0, 0x8400, 0, len(records), 0, 0) + b"".join(records)


def service(service_type: str, instance: str, port: int, *ips: str) -> bytes:
    """The answer of a service without a TXT record."""
    owner = labels(f"{instance}.{service_type}")
    host = labels(f"{instance}.{service_type.partition('.')[0]}.local.")  # one that no other test has
    addresses = [address(host, ip) for ip in ips]
    return answer(pointer(service_type, owner), place(owner, port, host), *addresses)


def goodbye(service_type: str, instance: str) -> bytes:
    return answer(pointer(service_type, labels(f"{instance}.{service_type}"), ttl=0))


def shout(packet: bytes) -> None:
    """Send a packet to everyone who listens on the loopback interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
        sock.bind(("127.0.0.1", 5353))
        sock.sendto(packet, ("224.0.0.251", 5353))


class PacketReader:
    """Reads the mDNS packets on the loopback interface that hold some bytes."""

    def __init__(self, containing: bytes) -> None:
        self._containing = containing
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def __enter__(self) -> "PacketReader":
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._sock.setblocking(False)
        self._sock.bind(("", 5353))
        group = socket.inet_aton("224.0.0.251") + socket.inet_aton("127.0.0.1")
        self._sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    async def next(self) -> DNSIncoming:
        """Return the next packet, at the latest after 15 seconds."""
        async with asyncio.timeout(15):
            while self._containing not in (packet := await self._receive()):
                pass
        return DNSIncoming(packet)

    async def _receive(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self._sock, 9000)


def _record(owner: bytes, kind: int, dns_class: int, ttl: int, data: bytes) -> bytes:
    return owner + struct.pack("!HHIH", kind, dns_class, ttl, len(data)) + data
