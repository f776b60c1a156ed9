"""A time server on loopback whose packets are written by hand, not by the code under test."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

Address = tuple[str, int]
Answer = Callable[["NtpServer", bytes, Address], None]

NTP_UNIX_EPOCH = 2_208_988_800


def stamp(unix: float) -> bytes:
    """Unix seconds as the eight bytes of an NTP timestamp."""
    seconds, fraction = divmod(unix, 1)
    return struct.pack("!II", (int(seconds) + NTP_UNIX_EPOCH) % 2**32, int(fraction * 2**32))


def reply(
    request: bytes,
    *,
    received: float,
    sent: float | None = None,
    first: int = 0x24,
    stratum: int = 1,
    reference: bytes = b"TEST",
    origin: bytes | None = None,
) -> bytes:
    """A server's reply to a request, with any field made wrong on demand."""
    head = bytes([first, stratum, 6, 0xEC]) + bytes(8) + reference
    times = stamp(received - 10) + (request[40:48] if origin is None else origin)
    return head + times + stamp(received) + stamp(received if sent is None else sent)


@dataclass
class NtpServer(asyncio.DatagramProtocol):
    """Answers each request with the next of its answers, and the last one ever after.

    Attributes:
        requests: Every datagram that came.
    """

    answers: list[Answer]
    requests: list[bytes] = field(default_factory=list)
    transport: asyncio.DatagramTransport = field(init=False)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self.requests.append(data)
        answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
        answer(self, data, addr)

    @property
    def port(self) -> int:
        return int(self.transport.get_extra_info("sockname")[1])


@asynccontextmanager
async def ntp_server(*answers: Answer, host: str = "127.0.0.1") -> AsyncIterator[NtpServer]:
    """A running server that answers as told."""
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(
        lambda: NtpServer(list(answers)), local_addr=(host, 0)
    )
    try:
        yield server
    finally:
        transport.close()


def says(ahead: float, now: Callable[[], float], **wrong: object) -> Answer:
    """Answers at once with a clock ``ahead`` of ``now``, fields of `reply` made ``wrong``."""

    def answer(server: NtpServer, request: bytes, addr: Address) -> None:
        server.transport.sendto(reply(request, received=now() + ahead, **wrong), addr)  # type: ignore[arg-type]

    return answer


def silence(server: NtpServer, request: bytes, addr: Address) -> None:
    """Loses the request."""


def raw(data: bytes) -> Answer:
    """Answers with these bytes whatever was asked."""
    return lambda server, request, addr: server.transport.sendto(data, addr)


def late(answer: Answer, seconds: float) -> Answer:
    """Answers after a while."""

    def wait(server: NtpServer, request: bytes, addr: Address) -> None:
        asyncio.get_running_loop().call_later(seconds, answer, server, request, addr)

    return wait
