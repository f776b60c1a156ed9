"""Starts that need nothing more than to be let go.

Everything slow is done ahead: the connection is open, the command encoded but for its time, and a
task already waits for the answer. What is left at the start is one ``send`` in the caller's own stack
frame, so that starting a thousand devices is one tight loop. See docs/multicam.md, "Starting together".
"""

import asyncio
import math
import time
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
    UsageError,
)
from asynccam.runtime.retry import Backoff
from asynccam.runtime.tasks import TaskScope
from asynccam.runtime.timing import deadline
from asynccam.systems.multicam.connection import Connection
from asynccam.systems.multicam.models import CommandMessage, StatusResponse
from asynccam.wall_clock import WALL_CLOCK, unix_now

Connect = Callable[[], Awaitable[Connection]]
Judge = Callable[[bytes], StatusResponse]
"""Makes an answer of a JSON document, or raises what the device's refusal means."""

_PLACEHOLDER: Final = 1234567890.5
_AGAIN: Final = Backoff(initial=0.1, maximum=5.0, immediate=True)


@lru_cache(maxsize=8)
def _template(sender: str) -> tuple[bytes, bytes]:
    """The command before and after its time."""
    command = CommandMessage.start_recording(_PLACEHOLDER, device_id=sender).to_bytes()
    head, _, tail = command.partition(repr(_PLACEHOLDER).encode())
    return head, tail


@lru_cache(maxsize=8)
def _start_command(sender: str, at: float) -> bytes:
    """The command: put together once for all devices that are to start at the same time."""
    if not math.isfinite(at):
        raise UsageError(f"{at} is not a time to start at")
    head, tail = _template(sender)
    return head + repr(float(at)).encode() + tail


class ArmedCommand:
    """A START_RECORDING on an open connection; made by `MultiCamClient.arm`.

    A device may close a connection on which nothing comes. That is seen at once and a new one is
    opened, so only a start that falls into the moment in between finds none. A start scheduled ahead is
    then still delivered if a connection comes about before its time. A start for now is not, because a
    late start that looks like a prompt one is worse than an error: `accepted` raises a
    `ConnectionError` which says that the command was not carried out.

    Args:
        connection: The first connection.
        connect: Opens another one.
        judge: Reads the answer.
        sender: The controller's name in the command.
        timeout: Seconds that `accepted` waits unless told otherwise.

    Attributes:
        commanded_at: When the command left, Unix seconds; None before.
        answered_at: When the answer arrived, Unix seconds; None before.
        rearmed: How often a connection that the device closed was replaced.
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
        self, connection: Connection, connect: Connect, judge: Judge, *, sender: str, timeout: float
    ) -> None:
        self.commanded_at: float | None = None
        self.answered_at: float | None = None
        self.rearmed = 0
        self._peer = connection.peer
        self._connection: Connection | None = connection
        self._connect = connect
        self._judge = judge
        self._timeout = timeout
        self._sender = sender
        _template(sender)  # not at the start
        self._document: bytes | None = None
        self._error: AsynccamError | None = None
        self._lost = ""
        self._over = asyncio.Event()
        self._scope = TaskScope(f"armed {self._peer}")
        self._watcher = self._scope.spawn(self._watch(), name="watch")

    @property
    def ready(self) -> bool:
        """Whether `release` would find an open connection."""
        return self._connection is not None and self.commanded_at is None

    @property
    def closed(self) -> bool:
        """Whether it is over: answered and read, failed, or closed."""
        return self._over.is_set() and self._connection is None

    def release(self, at: float | None = None, *, due: float | None = None) -> None:
        """Send the start in place; never waits, and never raises for the device's sake.

        Args:
            at: Unix seconds at which the device is to start by its own clock; None for now.
            due: The same moment by this computer's clock, Unix seconds; None for the same time.

        Raises:
            StateError: It was released or closed before.
            UsageError: ``at`` is not a time.
        """
        if self.commanded_at is not None or self._over.is_set():
            raise StateError(f"the start of {self._peer} was let go or closed before")
        now = unix_now()
        payload = _start_command(self._sender, now if at is None else at)
        self.commanded_at = now
        connection = self._connection
        reason = self._lost
        if connection is not None:
            try:
                rest = connection.send_now(payload)
            except ConnectionError as error:
                reason = str(error)
            else:
                if rest:
                    self._scope.spawn(self._send_rest(connection, rest), name="send the rest")
                return
        # Counted from here on: the wall clock may be set before the start is due.
        until = None if at is None else WALL_CLOCK.elapsed() + (at if due is None else due) - now
        self._scope.spawn(self._deliver_late(payload, until, reason), name="deliver late")

    async def accepted(self, *, timeout: float | None = None) -> StatusResponse:
        """Wait for the answer to `release`.

        Args:
            timeout: Seconds to wait; None for the client's own deadline.

        Raises:
            ConnectionError: The connection went; ``maybe_executed`` says whether the command had left.
            TimeoutError: No answer in time; likewise.
            RemoteProtocolError: What came is no answer.
            ClockNotSynchronizedError, DeviceError: The device refused.
            StateError: `release` was not called, or `aclose` was.
        """
        if self.commanded_at is None:
            raise StateError(f"the start of {self._peer} was not let go")
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
            raise self._error or StateError(f"the start of {self._peer} was closed before it was answered")
        return self._judge(self._document)

    async def aclose(self) -> None:
        """Close the connection and stop waiting; a command that has left is not called back by this.

        Harmless when called twice.
        """
        self._over.set()
        await self._scope.aclose()
        self._disconnect()

    async def _watch(self) -> None:
        """Wait for the answer, and replace the connection while there is none to wait for."""
        delays = _AGAIN.delays()
        while True:
            if self._connection is None:
                await asyncio.sleep(next(delays))
                try:
                    self._connection = await self._connect()
                except RetryableError as error:
                    self._lost = str(error)
                    continue
                self.rearmed += 1
            opened = time.monotonic()
            if await self._answered(self._connection):
                return
            self._disconnect()
            if time.monotonic() - opened > _AGAIN.maximum:
                delays = _AGAIN.delays()

    async def _deliver_late(self, payload: bytes, due: float | None, reason: str) -> None:
        """Find a connection for a start that is still ahead; otherwise say that it never left."""
        self._watcher.cancel()
        await asyncio.wait({self._watcher})  # it reads from the socket that is closed next
        self._disconnect()
        delays = _AGAIN.delays()
        while due is not None and (remaining := due - WALL_CLOCK.elapsed()) > 0:
            try:
                async with deadline(remaining, f"connection to {self._peer}"):
                    self._connection = await self._connect()
            except RetryableError as error:
                reason = str(error)
                await asyncio.sleep(next(delays))
                continue
            self.commanded_at = unix_now()
            try:
                await self._connection.send(payload)
            except ConnectionError as error:
                self._fail(error)
            else:
                await self._answered(self._connection)
            return
        self._fail(ConnectionError(f"the start was not sent to {self._peer}: {reason}"))

    async def _answered(self, connection: Connection) -> bool:
        """Read the answer and end; False if the connection was lost before anything was sent on it."""
        try:
            document = await connection.answer()
        except (ConnectionError, RemoteProtocolError) as error:
            self._lost = str(error)
            if connection.sent:
                self._fail(error)
            return connection.sent
        self._lost = f"{self._peer} spoke before it was asked"
        if connection.sent:
            self.answered_at = unix_now()
            self._document = document
            self._over.set()
        return connection.sent

    async def _send_rest(self, connection: Connection, rest: bytes) -> None:
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
