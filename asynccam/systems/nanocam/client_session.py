"""One connection of a media client: requests out, answers in, files past Python where that is possible.

An original server dies of a client that leaves while it captures, so a connection knows which answers
it is still owed, and can see them through. See docs/protocols/nanocam.md, "Seen on the original server".
"""

import asyncio
import logging
import socket
from collections import deque
from dataclasses import asdict, dataclass, fields
from typing import Final

from asynccam.errors import (
    ConnectionError,
    TimeoutError,
    TransferError,
    UsageError,
)
from asynccam.model.features import Progress
from asynccam.net.tcp import connect_tcp
from asynccam.net.transfer.download import PartFile, receive_file
from asynccam.redaction import loggable
from asynccam.runtime.timing import deadline
from asynccam.systems.nanocam.protocol import (
    GOODBYE,
    Request,
    encode_request,
)
from asynccam.systems.nanocam.reply_parser import FileData, FileEnds, ReplyEvent, ReplyReader
from asynccam.systems.nanocam.wire_answers import (
    Busy,
    Finished,
    Ok,
    Refused,
)

_LOG = logging.getLogger(__name__)

_READ: Final = 256 * 1024
_BULK: Final = 256 * 1024
"""Bytes that are worth a download engine."""
_BATCH: Final = 1024 * 1024
"""Bytes that are worth a way to the disk and back; less costs speed, more memory."""


@dataclass(frozen=True, slots=True)
class ClientTimeouts:
    """How patient a `MediaClient` is, in seconds.

    Attributes:
        connect: For a connection.
        answer: For an answer that takes no capture: to a stream that is asked for, a kill, a longer time.
        capture: Beyond what a capture takes by itself, waiting for the camera included.
        stall: Without a byte of a file.
        first_frame: For the first frame of a stream, from when the server has said that it begins.
        quiet: After which a file that does not tell its end is taken for complete.
        leave: `MediaClient.aclose` waits for an original server to end a capture, because it would die of a
            client that leaves.
    """

    connect: float = 10.0
    answer: float = 10.0
    capture: float = 60.0
    stall: float = 60.0
    first_frame: float = 20.0
    quiet: float = 2.0
    leave: float = 15.0

    def __post_init__(self) -> None:
        for one in fields(self):
            if not getattr(self, one.name) > 0:
                raise UsageError(f"{one.name} of a media client is above 0, not {getattr(self, one.name)}")


class Link:
    """A connected socket with its reader; the caller sees that one request is made at a time.

    Attributes:
        peer: The server, for errors.
        owed: Answers that have not come to their end.
    """

    def __init__(self, sock: socket.socket, peer: str, timeouts: ClientTimeouts) -> None:
        self.peer = peer
        self.owed = 0
        self._sock = sock
        self._timeouts = timeouts
        self._reader = ReplyReader(peer=peer)
        self._events: deque[ReplyEvent] = deque()
        self._due = 0.0

    @classmethod
    async def open(cls, host: str, port: int, timeouts: ClientTimeouts) -> "Link":
        """Connect.

        Raises:
            ConnectionError, TimeoutError, UsageError: As `connect_tcp`.
        """
        sock = await connect_tcp(host, port, timeout=timeouts.connect)
        return cls(sock, f"nanocam server {host}:{port}", timeouts)

    @property
    def address(self) -> str:
        """The server's IP address."""
        address: str = self._sock.getpeername()[0]
        return address.partition("%")[0].removeprefix("::ffff:")

    @property
    def framed(self) -> bool | None:
        """Whether the server is one of ours; None as long as it has not answered."""
        return self._reader.framed

    async def send(self, request: Request, timeout: float) -> None:
        """Send a request, in one piece.

        Args:
            request: What is asked.
            timeout: Seconds the answer may take.

        Raises:
            ConnectionError: The server is gone.
            TimeoutError: It takes no request.
        """
        payload = encode_request(request)
        if _LOG.isEnabledFor(logging.DEBUG):
            _LOG.debug("%s: request %s %s", self.peer, type(request).__name__, loggable(asdict(request)))
        self._due = asyncio.get_running_loop().time() + timeout
        async with deadline(self._timeouts.answer, f"room for a request to {self.peer}"):
            try:
                self.owed += 1  # whatever happens now, a part of it may have left
                await asyncio.get_running_loop().sock_sendall(self._sock, payload)
            except OSError as error:
                raise self._gone(error) from error

    async def answer(self, timeout: float, what: str) -> ReplyEvent:
        """The next event of an answer.

        Args:
            timeout: Seconds it may take.
            what: Names the wait in the error.

        Raises:
            ConnectionError: The server is gone.
            TimeoutError: Nothing came.
            RemoteProtocolError: What came makes no sense.
        """
        async with deadline(timeout, f"{what} from {self.peer}", maybe_executed=True):
            return await self._next()

    async def receive(self, part: PartFile, progress: Progress | None) -> None:
        """Take a file, of which the beginning was announced, into a part.

        Raises:
            TransferError: The server went away or fell silent; the part is kept.
            StorageError: The disk refuses; the part is kept.
            RemoteProtocolError: What came makes no sense.
        """
        batch: list[memoryview] = []
        try:
            while True:
                if not self._events and self._reader.bulk >= _BULK:
                    await _write(part, batch)
                    await self._bulk(part, progress)
                    continue
                event = await self.answer(self._timeouts.stall, f"further byte of {part.target.name}")
                if isinstance(event, FileData):
                    batch.append(event.data)
                if isinstance(event, FileEnds) or sum(map(len, batch)) >= _BATCH:
                    await _write(part, batch)
                    if progress is not None:
                        progress(part.received, part.size)
                if isinstance(event, FileEnds):
                    return
        except (ConnectionError, TimeoutError) as error:
            await _write(part, batch)
            raise TransferError(
                f"{part.target.name} ended after {part.received} bytes: {error}",
                part=await part.keep(),
                received=part.received,
                expected=part.size,
            ) from error

    async def settle(self) -> None:
        """See every answer that is owed to its end, and throw it away.

        Raises:
            ConnectionError, TimeoutError, RemoteProtocolError: It does not come to that.
        """
        while self.owed:
            left = self._due - asyncio.get_running_loop().time()
            await self.answer(max(left, self._timeouts.stall), "end of an answer that nobody waits for")

    def close(self) -> None:
        """Say goodbye, if the socket takes it at once, and close; harmless when called twice."""
        try:
            if self._sock.fileno() >= 0:
                self._sock.send(GOODBYE)
        except OSError:
            pass  # it is gone, or does not read
        finally:
            self._sock.close()

    # -- within -------------------------------------------------------------------------------------

    async def _next(self) -> ReplyEvent:
        if not self._events:
            self._events.extend(self._reader.feed(b""))  # raises a fault that stood behind the last events
        while not self._events:
            data = await self._some()
            self._events.extend(self._reader.feed(data) if data else self._reader.conclude())
            if not data and not self._events:
                raise ConnectionError(f"{self.peer} closed the connection", maybe_executed=True)
        event = self._events.popleft()
        if _LOG.isEnabledFor(logging.DEBUG) and not isinstance(event, FileData):
            _LOG.debug("%s: response %s", self.peer, loggable(event))
        if isinstance(event, Busy | Ok | Refused | Finished):
            self.owed = max(0, self.owed - 1)
        return event

    async def _some(self) -> bytes:
        """Some bytes; nothing when the server has closed, or when its silence means an end."""
        if not self._reader.may_be_over:
            return await self._receive()
        try:
            async with deadline(self._timeouts.quiet, "further byte"):
                return await self._receive()
        except TimeoutError:
            return b""

    async def _receive(self) -> bytes:
        try:
            data = await asyncio.get_running_loop().sock_recv(self._sock, _READ)
        except OSError as error:
            raise self._gone(error) from error
        await asyncio.sleep(0)  # sock_recv does not yield while data is there
        return data

    async def _bulk(self, part: PartFile, progress: Progress | None) -> None:
        before = part.received
        try:
            await receive_file(
                self._sock,
                part,
                before + self._reader.bulk,
                stall_timeout=self._timeouts.stall,
                progress=None if progress is None else lambda received, _: progress(received, part.size),
            )
        finally:
            self._reader.skip(part.received - before)

    def _gone(self, error: OSError) -> ConnectionError:
        return ConnectionError(
            f"{self.peer} is gone: {error.strerror or error}", maybe_executed=self.owed > 0
        )


async def _write(part: PartFile, batch: list[memoryview]) -> None:
    """Write what has come, in one go."""
    if batch:
        data = batch[0] if len(batch) == 1 else b"".join(batch)
        batch.clear()
        await part.write(data)
