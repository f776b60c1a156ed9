"""One command's connection to a MultiCam device, and a start that waits on one for its release.

A connection is a bare socket for one write and one reply. It is not a stream for three reasons: a command
must be sent in a single write (some devices read once and take that for all of it), a start must be sent
inside the call that releases it, and files are spliced to disk past Python. See docs/protocols/multicam.md,
"Transport".

All slow work of an armed start is done before its release: the connection is open, the command is encoded but
for its time, and a task already waits for the reply. The release is one ``send`` in the caller's own stack
frame, so that starting a thousand devices is one tight loop. See docs/multicam.md, "Starting together".
"""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Final

from asynccam.errors import (
    AsynccamError,
    ConnectionError,
    RemoteProtocolError,
    RetryableError,
    StateError,
    TimeoutError,
)
from asynccam.net.tcp import receive_some
from asynccam.redaction import loggable_json
from asynccam.runtime.retry import Backoff, retry
from asynccam.runtime.tasks import TaskScope
from asynccam.runtime.timing import SYSTEM_CLOCK, deadline
from asynccam.systems.multicam.models import CommandType, StatusResponse
from asynccam.systems.multicam.protocol import ResponseReader, encode_command
from asynccam.wall_clock import WALL_CLOCK, unix_now

_LOG = logging.getLogger(__name__)
_READ_SIZE: Final = 65536


class CommandConnection:
    """A connected non-blocking socket for one command and its reply; closes itself as a context manager."""

    __slots__ = ("_reader", "peer", "received_at", "sent", "sent_at", "sock")

    def __init__(self, sock: socket.socket, peer: str) -> None:
        self.peer = peer
        self.sent = False  # true once any part was sent, so that the device may execute the command
        self.sent_at = 0.0  # monotonic, just before the last write
        self.received_at = 0.0  # monotonic, after the last read
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
        """Write in one call to the kernel; return bytes not taken: none, unless the send buffer is tiny."""
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
            data, self.received_at = await receive_some(self.sock, _READ_SIZE)
        except OSError as error:
            raise self._broken(error, "before its answer was complete") from error
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


Connect = Callable[[], Awaitable[CommandConnection]]
Judge = Callable[[bytes], StatusResponse]
"""Parses a JSON document, and raises the error for a refusal."""

_RECONNECT_BACKOFF: Final = Backoff(initial=0.1, maximum=5.0, immediate=True)


@lru_cache(maxsize=8)
def _start_command(sender: str, at: float) -> bytes:
    """Return the encoded command; cached, because all devices of a take start at the same time."""
    return encode_command(CommandType.START_RECORDING, sender, at)


class ArmedCommand:
    """A START_RECORDING on an open connection; made by `MultiCamClient.arm`.

    If the device closes the idle connection, a new one is opened at once. A start that is released in
    between is still delivered if it is scheduled ahead and a connection opens before its time. A start for
    now is not delivered late: `accepted` raises a `ConnectionError` with ``maybe_executed`` false.

    Attributes:
        commanded_at: When the command was sent, Unix seconds; None before.
        answered_at: When the reply was received, Unix seconds; None before.
        rearmed: Number of replaced connections.
    """

    __slots__ = (
        "_connect",
        "_connection",
        "_document",
        "_error",
        "_judge",
        "_lost",
        "_over",
        "_peer",
        "_scope",
        "_sender",
        "_timeout",
        "_watcher",
        "answered_at",
        "commanded_at",
        "rearmed",
    )

    def __init__(
        self, connection: CommandConnection, connect: Connect, judge: Judge, *, sender: str, timeout: float
    ) -> None:
        self.commanded_at: float | None = None
        self.answered_at: float | None = None
        self.rearmed = 0
        self._peer = connection.peer
        self._connection: CommandConnection | None = connection
        self._connect = connect
        self._judge = judge
        self._timeout = timeout
        self._sender = sender
        _start_command(sender, 0.0)  # fills the cache of its text before the start
        self._document: bytes | None = None
        self._error: AsynccamError | None = None
        self._lost = ""
        self._over = asyncio.Event()
        self._scope = TaskScope(f"armed {self._peer}")
        self._watcher = self._scope.spawn(self._watch(), name="watch")

    @property
    def ready(self) -> bool:
        """True while a connection is open and the start is not released."""
        return self._connection is not None and self.commanded_at is None

    @property
    def closed(self) -> bool:
        """True once the reply was read, the start failed, or `aclose` was called."""
        return self._over.is_set() and self._connection is None

    def release(self, at: float | None = None, *, due: float | None = None) -> None:
        """Send the start without waiting; connection errors are raised by `accepted`.

        ``at`` is the time by the device's own clock in Unix seconds, None for now; ``due`` is the same moment
        by this computer's clock. Raises `StateError` if it was released or closed before, and `UsageError` if
        ``at`` is not finite.
        """
        if self.commanded_at is not None or self._over.is_set():
            raise StateError(f"the start of {self._peer} was already released or closed")
        now = unix_now()
        payload = _start_command(self._sender, now if at is None else at)
        self.commanded_at = now
        connection = self._connection
        if connection is not None:
            try:
                rest = connection.send_now(payload)
            except ConnectionError as error:
                self._lost = str(error)
            else:
                if rest:
                    self._scope.spawn(self._send_rest(connection, rest), name="send the rest")
                return
        # As elapsed time: the wall clock may be set before the start is due.
        until = None if at is None else WALL_CLOCK.elapsed() + (at if due is None else due) - now
        self._scope.spawn(self._deliver_late(payload, until), name="deliver late")

    async def accepted(self, *, timeout: float | None = None) -> StatusResponse:
        """Wait for the reply to `release`, for ``timeout`` seconds or the client's own.

        Raises:
            ConnectionError, TimeoutError: No reply; ``maybe_executed`` is true if the command was sent.
            RemoteProtocolError: The reply is not valid.
            ClockNotSynchronizedError, DeviceError: The device refused.
            StateError: `release` was not called, or `aclose` was.
        """
        if self.commanded_at is None:
            raise StateError(f"the start of {self._peer} was not released")
        try:
            async with deadline(
                self._timeout if timeout is None else timeout, f"answer from {self._peer} to START_RECORDING"
            ):
                await self._over.wait()
        except TimeoutError as error:
            error.maybe_executed = self._connection is not None and self._connection.sent
            raise
        await self.aclose()
        if self._document is None:
            raise self._error or StateError(f"the start of {self._peer} was closed before its reply")
        return self._judge(self._document)

    async def aclose(self) -> None:
        """Close the connection; a command that was sent is not cancelled by this. May be called twice."""
        self._over.set()
        try:
            await self._scope.aclose()
        finally:
            self._disconnect()

    async def _watch(self) -> None:
        """Wait for the reply, and replace a connection that the device closes before the release."""

        async def wait_for_reply() -> None:
            connection = self._connection
            if connection is None:
                connection = await self._reconnect()
                self.rearmed += 1
            if not await self._answered(connection):
                self._disconnect()
                raise ConnectionError(self._lost)

        settled_after = _RECONNECT_BACKOFF.maximum
        await retry(wait_for_reply, attempts=None, backoff=_RECONNECT_BACKOFF, settled_after=settled_after)

    async def _reconnect(self) -> CommandConnection:
        try:
            self._connection = await self._connect()
        except RetryableError as error:
            self._lost = str(error)
            raise
        return self._connection

    async def _deliver_late(self, payload: bytes, due: float | None) -> None:
        """Open a connection for a start that is still ahead; otherwise fail as not sent."""
        self._watcher.cancel()
        await asyncio.wait({self._watcher})  # it reads from the socket that is closed next
        self._disconnect()
        reason = self._lost
        delays = _RECONNECT_BACKOFF.delays()
        # Before each try: a computer that slept past the start must not send it late.
        while due is not None and (remaining := due - WALL_CLOCK.elapsed()) > 0:
            try:
                async with deadline(remaining, f"connection to {self._peer}"):
                    connection = await self._reconnect()
            except RetryableError as error:
                reason = str(error)
                await asyncio.sleep(next(delays))
                continue
            self.commanded_at = unix_now()
            try:
                await connection.send(payload)
            except ConnectionError as error:
                self._fail(error)
            else:
                await self._answered(connection)
            return
        self._fail(ConnectionError(f"the start was not sent to {self._peer}: {reason}"))

    async def _answered(self, connection: CommandConnection) -> bool:
        """Read the reply and end; return False if the connection was lost before anything was sent on it."""
        try:
            document = await connection.read_reply()
        except (ConnectionError, RemoteProtocolError) as error:
            self._lost = str(error)
            if connection.sent:
                self._fail(error)
            return connection.sent
        self._lost = f"{self._peer} replied before a command was sent"
        if connection.sent:
            self.answered_at = unix_now()
            self._document = document
            self._over.set()
        return connection.sent

    async def _send_rest(self, connection: CommandConnection, rest: bytes) -> None:
        try:
            await connection.send_rest(rest)
        except ConnectionError as error:
            self._fail(error)

    def _fail(self, error: AsynccamError) -> None:
        self._error = error
        self._over.set()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
