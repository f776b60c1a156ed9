"""One command's connection to a MultiCam device: a bare socket, one write, one reply.

It is a socket and not a stream for three reasons: a command must be sent in a single write (some devices
read once and take that for all of it), a start must be sent inside the call that releases it, and files
are spliced to disk past Python. See docs/protocols/multicam.md, "Transport".
"""

import asyncio
import logging
import socket
from typing import Final

from asynccam.errors import ConnectionError
from asynccam.redaction import loggable_json
from asynccam.runtime.timing import SYSTEM_CLOCK
from asynccam.systems.multicam.protocol import ResponseReader

_LOG = logging.getLogger(__name__)
_READ_SIZE: Final = 65536


class CommandConnection:
    """A connected non-blocking socket for one command and its reply; closes itself as a context manager.

    ``sent`` is true once any part of the command was sent, so that the device may execute it. ``sent_at`` and
    ``received_at`` are monotonic times just before the last write and after the last read.
    """

    __slots__ = ("_reader", "peer", "received_at", "sent", "sent_at", "sock")

    def __init__(self, sock: socket.socket, peer: str) -> None:
        self.peer = peer
        self.sent = False
        self.sent_at = 0.0
        self.received_at = 0.0
        self.sock = sock
        self._reader = ResponseReader(peer=peer)

    def __enter__(self) -> "CommandConnection":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket; may be called twice."""
        self.sock.close()

    def send_now(self, payload: bytes) -> bytes:
        """Write a command in one call to the kernel, without waiting.

        Return the bytes the kernel did not take: none, unless the send buffer is tiny.
        """
        self.sent_at = SYSTEM_CLOCK.monotonic()
        try:
            taken = self.sock.send(payload)
        except BlockingIOError:
            return payload
        except OSError as error:
            raise self._broken(error, "before the command left") from error
        self.sent = True
        # Logged after it was sent: nothing may delay a start.
        if _LOG.isEnabledFor(logging.DEBUG):
            _LOG.debug("%s: command %s", self.peer, loggable_json(payload))
        return payload[taken:]

    async def send(self, payload: bytes) -> None:
        """Write a command, in one call to the kernel unless that takes only a part."""
        rest = self.send_now(payload)
        if rest:
            await self.send_rest(rest)

    async def send_rest(self, rest: bytes) -> None:
        """Write the bytes that `send_now` returned."""
        self.sent = True
        try:
            await asyncio.get_running_loop().sock_sendall(self.sock, rest)
        except OSError as error:
            raise self._broken(error, "while the command left") from error

    async def receive(self) -> bytes:
        """Return some bytes, ``b""`` when the peer has closed its side."""
        try:
            data = await asyncio.get_running_loop().sock_recv(self.sock, _READ_SIZE)
        except OSError as error:
            raise self._broken(error, "before its answer was complete") from error
        self.received_at = SYSTEM_CLOCK.monotonic()
        # sock_recv does not yield while there is data: a peer that floods must not block the loop.
        await asyncio.sleep(0)
        return data

    async def read_reply(self) -> bytes:
        """Return the next reply as one JSON document; unsolicited heartbeats are skipped."""
        while True:
            data = await self.receive()
            if not data:
                raise ConnectionError(
                    f"{self.peer} closed the connection before its answer was complete",
                    maybe_executed=self.sent,
                )
            document = self._reader.feed(data)
            if document is not None:
                if _LOG.isEnabledFor(logging.DEBUG):
                    _LOG.debug("%s: response %s", self.peer, loggable_json(document))
                return document

    def _broken(self, error: OSError, when: str) -> ConnectionError:
        reason = error.strerror or type(error).__name__
        return ConnectionError(
            f"the connection to {self.peer} broke {when}: {reason}", maybe_executed=self.sent
        )
