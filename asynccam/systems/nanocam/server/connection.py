"""One client's connection to a media server. See docs/protocols/nanocam.md.

A reader takes messages, so that a kill and a client that leaves are noticed at any time; a worker carries
requests out, one after another. Everything is bounded, so a client that sends nothing, reads nothing or
writes nonsense costs one socket for a while and nothing else.
"""

import asyncio
import builtins
import logging
import socket
from collections import deque
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Final

from asynccam.errors import (
    AsynccamError,
    AuthenticationError,
    BusyError,
    ConnectionError,
    RecordingError,
    RemoteProtocolError,
    StorageError,
    TimeoutError,
    UsageError,
)
from asynccam.redaction import loggable
from asynccam.runtime.tasks import TaskScope
from asynccam.runtime.threads import thread_errors
from asynccam.systems.nanocam.protocol import (
    BadRequest,
    Goodbye,
    ImageRequest,
    KillRequest,
    Ours,
    Probe,
    RequestEvent,
    RequestReader,
    ResetTimerRequest,
    VideoRequest,
)
from asynccam.systems.nanocam.server.camera import CaptureJob, Studio
from asynccam.systems.nanocam.server.options import ServerLimits, ServerPolicy, WhenBusy
from asynccam.systems.nanocam.server.queue import UDP, Job
from asynccam.systems.nanocam.server.requests import Wanted, checked
from asynccam.systems.nanocam.server.responses import Answers, Line

_LOG = logging.getLogger(__name__)
_READ: Final = 16 * 1024


class _Order:
    """A request that is carried out, or waits for that, or was refused because a stream has the camera."""

    def __init__(self, wanted: Wanted, port: int, ssrc: int | None, answers: Answers) -> None:
        self.wanted = wanted
        self.port = port
        self.ssrc = ssrc
        self.answers = answers
        self.job: CaptureJob | None = None
        self.killed_here = False
        self.answered = False
        self.over = asyncio.Event()


class ServerConnection:
    """Serves one client.

    Args:
        sock: Connected and non-blocking; whoever runs this closes it afterwards.
        address: The client's IP address, the only one that media are sent to.
        studio: The camera.
        media_port: UDP port that media go to.
        policy: Whom to serve.
        limits: Numbers and deadlines.

    Attributes:
        address: As given.
        peer: Names the client in logs.
    """

    def __init__(
        self,
        sock: socket.socket,
        address: str,
        studio: Studio,
        *,
        media_port: int,
        policy: ServerPolicy,
        limits: ServerLimits,
    ) -> None:
        self.address = address
        self.peer = f"nanocam client {address}"
        self._sock = sock
        self._studio = studio
        self._desk = studio.desk
        self._media_port = media_port
        self._policy = policy
        self._limits = limits
        self._line = Line(sock, self.peer, limits.stall_timeout)
        self._reader = RequestReader(max_size=limits.request, peer=self.peer)
        self._patience = asyncio.timeout(None)
        self._idle_since = asyncio.get_running_loop().time()
        self._begun_at: float | None = None
        self._orders: deque[_Order] = deque()  # the first one is being carried out
        self._more = asyncio.Event()
        self._refused: _Order | None = None
        self._failure: Exception | None = None

    @property
    def idle_since(self) -> float | None:
        """Loop time since when nothing is being done for the client, or None while something is."""
        return None if self._orders else self._idle_since

    async def run(self) -> None:
        """Serve until the client leaves, breaks the protocol or a deadline passes; raises nothing of that."""
        try:
            with thread_errors():
                await self._serve()
        except (AsynccamError, OSError) as error:
            _LOG.warning("%s is parted with: %s", self.peer, self._failure or error)
        finally:
            for order in self._orders:
                self._part_with(order)

    async def _serve(self) -> None:
        async with TaskScope(self.peer) as scope:
            scope.spawn(self._work(), name="work")
            try:
                await self._listen()
            finally:
                self._stop_all()

    # -- the reader -----------------------------------------------------------------------------

    async def _listen(self) -> None:
        try:
            async with self._patience:
                while data := await self._receive():
                    for event in self._reader.feed(data):
                        if not await self._heed(event):
                            return
                    self._reader.feed(b"")  # raises the fault that stood behind the messages
        except TimeoutError:
            raise
        except builtins.TimeoutError:
            awaited = "rest of a request" if self._reader.within else "request"
            raise TimeoutError(f"no {awaited} came in time") from None
        if self._failure is None:
            self._reader.eof()
            if self._orders:
                raise ConnectionError("it left before it had everything")
        else:
            raise self._failure

    async def _receive(self) -> bytes:
        now = asyncio.get_running_loop().time()
        self._begun_at = (self._begun_at or now) if self._reader.within else None
        self._set_patience()
        data = await asyncio.get_running_loop().sock_recv(self._sock, _READ)
        self._patience.reschedule(None)  # What is done now has bounds of its own.
        self._idle_since = asyncio.get_running_loop().time()
        await asyncio.sleep(0)  # sock_recv does not yield while data is there.
        return data

    def _set_patience(self) -> None:
        """Until when the client may say nothing; called whenever that changes."""
        until: float | None = None
        if self._begun_at is not None:
            until = self._begun_at + self._limits.request_timeout
        elif not self._orders:
            until = self._idle_since + self._limits.idle_timeout
        if not self._patience.expired():
            self._patience.reschedule(until)

    async def _heed(self, event: RequestEvent) -> bool:
        """Act on a message; False if it is the last one."""
        if _LOG.isEnabledFor(logging.DEBUG):
            _LOG.debug("%s: request %s %s", self.peer, type(event).__name__, loggable(asdict(event)))
        match event:
            case Goodbye():
                return False
            case Probe():
                pass
            case BadRequest(reason, ours):
                if ours is None:
                    raise RemoteProtocolError(reason)
                await self._answers(ours).refuse("request", UsageError(reason))
            case _ if not self._admits(event.ours):
                await self._turn_away(event.ours)
            case KillRequest(ours):
                await self._kill(self._answers(ours))
            case ResetTimerRequest(duration, ours):
                await self._reset_timer(duration, self._answers(ours))
            case ImageRequest() | VideoRequest():
                await self._take_on(event)
        return True

    async def _turn_away(self, ours: Ours | None) -> None:
        if ours is None:
            raise AuthenticationError("it speaks the original protocol, which has no token")
        _LOG.warning("%s shows no token, or a wrong one", self.peer)
        await self._answers(ours).refuse("token", AuthenticationError("the token is missing or wrong"))

    async def _take_on(self, request: ImageRequest | VideoRequest) -> None:
        answers = self._answers(request.ours)
        try:
            wanted = checked(request, self._limits)
        except UsageError as error:
            await answers.refuse("request", error)
            return
        self._refused = None
        port = self._media_port if request.ours is None else request.ours.port or self._media_port
        ssrc = None if request.ours is None else request.ours.ssrc
        order = _Order(wanted, port, ssrc, answers)
        current = self._orders[0].job if self._orders else None
        if current is not None and current is self._desk.job and self._desk.streaming:
            await self._tell_busy(order)
        elif len(self._orders) > self._limits.ahead:
            raise RemoteProtocolError(f"it sent more than {self._limits.ahead} requests ahead")
        else:
            self._add(order)

    def _add(self, order: _Order) -> None:
        self._orders.append(order)
        self._more.set()

    async def _tell_busy(self, order: _Order) -> None:
        """Say that a stream has the camera; a kill may follow."""
        self._refused = order
        await order.answers.busy()

    async def _kill(self, answers: Answers) -> None:
        """End what has the camera, and then carry out what was refused because of it."""
        if self._line.delivering:
            raise ConnectionError("it killed the transfer of its own files")
        job = self._desk.job
        if job is not None and job.address != self.address and not self._policy.override:
            await answers.busy()
            return
        order, self._refused = self._refused, None
        try:
            if order is not None:
                order.job = self._job(order)
                self._desk.ask_first(order.job)
            if job is not None:
                await self._end(job)
            await answers.ok()
            if order is not None:
                order.answered = not order.answers.ours  # the original's one OK is for both
                self._add(order)
        except BaseException:
            if order is not None:
                self._part_with(order)
            raise

    async def _end(self, job: Job) -> None:
        current = self._orders[0] if self._orders else None
        if current is not None and current.job is job:
            current.killed_here = True
        await job.kill()
        if current is not None and current.killed_here:
            await current.over.wait()  # Whatever there is to say to that comes before the answer to the kill.

    async def _reset_timer(self, seconds: float, answers: Answers) -> None:
        """Extend a running video: the original answers `BUSY`, and dies when no video is running.

        An original client does not read an answer to the latter, and would take it for the answer to
        its next request. So it gets none.
        """
        job = self._desk.job
        if job is not None and job.address == self.address and job.extend(seconds):
            await (answers.ok() if answers.ours else answers.busy())
        elif answers.ours:
            await answers.refuse(
                "request", UsageError("no video for this client is running, so none was extended")
            )

    # -- the worker -----------------------------------------------------------------------------

    async def _work(self) -> None:
        """Carry out one request after another."""
        try:
            while True:
                while not self._orders:
                    self._more.clear()
                    await self._more.wait()
                self._set_patience()
                order = self._orders[0]
                try:
                    await self._carry_out(order)
                finally:
                    self._part_with(order)
                    self._orders.popleft()
                    self._idle_since = asyncio.get_running_loop().time()
                self._set_patience()
        except (AsynccamError, OSError) as error:
            self._failure = error
            with suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)  # wakes the reader, which parts with the client

    async def _carry_out(self, order: _Order) -> None:
        if order.job is None:
            if self._desk.streaming:
                await self._tell_busy(order)
                return
            order.job = self._job(order)
        try:
            if self._desk.taken and self._desk.job is not order.job and self._refuses:
                raise BusyError("another client has the camera")
            self._desk.ask(order.job)
            await self._desk.turn(order.job, self._limits.waiting_timeout)
        except (BusyError, TimeoutError) as error:
            await order.answers.refuse("busy", error)
            return
        try:
            if order.job.kind == UDP:
                await self._stream(order, order.job)
            else:
                async with self._studio.folder() as folder:
                    await self._capture(order, order.job, folder.path)
        except UsageError as error:
            await order.answers.refuse("request", error)
        except (RecordingError, StorageError) as error:
            await order.answers.refuse("capture", error)

    async def _stream(self, order: _Order, job: CaptureJob) -> None:
        """Send a stream to its end, of which nothing tells."""

        async def began() -> None:
            if not order.answered:
                order.answered = True
                await order.answers.ok(order.ssrc)

        try:
            await job.stream(order.port, began, ssrc=order.ssrc)
        except TimeoutError as error:
            await order.answers.refuse("capture", error)
            return
        if not order.answered:
            await self._tell_killed(order)

    async def _capture(self, order: _Order, job: CaptureJob, directory: Path) -> None:
        """Capture files, then send them while others have the camera."""
        try:
            files = await job.capture(directory)
        except TimeoutError as error:
            await order.answers.refuse("capture", error)
            return
        if job.killed:
            await self._tell_killed(order)
        else:
            await order.answers.deliver(files)

    async def _tell_killed(self, order: _Order) -> None:
        """Say that there is nothing to wait for; to an original that killed it itself, its `OK` says so."""
        if order.answers.ours or not order.killed_here:
            await order.answers.refuse("killed", ConnectionError("a client ended this capture"))

    # -- helpers --------------------------------------------------------------------------------

    @property
    def _refuses(self) -> bool:
        return self._policy.when_busy is WhenBusy.REFUSE

    def _stop_all(self) -> None:
        """Nothing goes on for a client that left; said at once, so that the next one is not busy."""
        for order in self._orders:
            if order.job is not None:
                order.job.ending = True

    def _job(self, order: _Order) -> CaptureJob:
        return CaptureJob(self._studio, order.wanted, self.address)

    def _answers(self, ours: Ours | None) -> Answers:
        return Answers(self._line, ours=ours is not None)

    def _admits(self, ours: Ours | None) -> bool:
        return self._policy.admits_originals() if ours is None else self._policy.admits(ours.token)

    def _part_with(self, order: _Order) -> None:
        if order.job is not None:
            order.job.leave()
        order.over.set()
