"""One client's connection to a media server. See docs/protocols/nanocam.md.

A reader handles messages, so that a kill and a disconnect are noticed at any time; a worker carries requests
out, one after another. Everything is bounded, so a client that sends nothing, reads nothing or sends invalid
data costs one socket for a while and nothing else.
"""

import asyncio
import builtins
import logging
import socket
from collections import deque
from contextlib import suppress
from dataclasses import asdict, dataclass, field
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
from asynccam.runtime.tasks import TaskScope, thread_errors
from asynccam.systems.nanocam.protocol import (
    BadRequest,
    ExtensionOptions,
    Goodbye,
    ImageRequest,
    KillRequest,
    Probe,
    RequestEvent,
    RequestReader,
    ResetTimerRequest,
    VideoRequest,
)
from asynccam.systems.nanocam.server.camera import (
    UDP,
    CaptureJob,
    CaptureRequest,
    ServerCamera,
    check_request,
)
from asynccam.systems.nanocam.server.options import ServerPolicy, WhenBusy
from asynccam.systems.nanocam.server.responses import Responder, ResponseWriter

_LOG = logging.getLogger(__name__)
_READ_SIZE: Final = 16 * 1024


@dataclass(slots=True, eq=False)
class _PendingRequest:
    """Request that is carried out, waits for that, or was refused because a stream has the camera."""

    capture: CaptureRequest
    port: int
    ssrc: int | None
    responder: Responder
    job: CaptureJob | None = None
    killed_here: bool = False
    answered: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)


class ServerConnection:
    """Serves one client on a connected, non-blocking socket, which the caller closes."""

    def __init__(
        self,
        sock: socket.socket,
        address: str,
        camera: ServerCamera,
        *,
        media_port: int,
        policy: ServerPolicy,
    ) -> None:
        self.address = address  # the client's IP address, the only one that media are sent to
        self.peer = f"nanocam client {address}"
        self._sock = sock
        self._camera = camera
        self._queue = camera.queue
        self._media_port = media_port
        self._policy = policy
        self._limits = camera.limits
        self._writer = ResponseWriter(sock, self.peer, self._limits.stall_timeout)
        self._reader = RequestReader(max_size=self._limits.request, peer=self.peer)
        self._read_timeout = asyncio.timeout(None)
        self._idle_since = asyncio.get_running_loop().time()
        self._request_began: float | None = None
        self._requests: deque[_PendingRequest] = deque()  # the first one is being carried out
        self._requests_added = asyncio.Event()
        self._refused: _PendingRequest | None = None
        self._failure: Exception | None = None

    @property
    def idle_since(self) -> float | None:
        """Return the loop time since when the client has no request, or None while it has one."""
        return None if self._requests else self._idle_since

    async def run(self) -> None:
        """Serve until the client leaves, breaks the protocol or times out; raises none of these errors."""
        try:
            with thread_errors():
                await self._serve()
        except (AsynccamError, OSError) as error:
            _LOG.warning("%s is disconnected: %s", self.peer, self._failure or error)
        finally:
            for request in self._requests:
                self._release(request)

    async def _serve(self) -> None:
        async with TaskScope(self.peer) as scope:
            scope.spawn(self._work(), name="work")
            try:
                await self._read_requests()
            finally:
                # Marked at once, so that the next client does not find the camera busy.
                for request in self._requests:
                    if request.job is not None:
                        request.job.ending = True

    # -- reader ---------------------------------------------------------------------------------

    async def _read_requests(self) -> None:
        try:
            async with self._read_timeout:
                while data := await self._receive():
                    for event in self._reader.feed(data):
                        if not await self._handle(event):
                            return
                    self._reader.feed(b"")  # raises a fault behind the messages
        except TimeoutError:
            raise
        except builtins.TimeoutError:
            awaited = "rest of a request" if self._reader.incomplete else "request"
            raise TimeoutError(f"no {awaited} arrived in time") from None
        if self._failure is not None:
            raise self._failure
        self._reader.eof()
        if self._requests:
            raise ConnectionError("the client left before its requests were complete")

    async def _receive(self) -> bytes:
        loop = asyncio.get_running_loop()
        self._request_began = (self._request_began or loop.time()) if self._reader.incomplete else None
        self._set_read_timeout()
        data = await loop.sock_recv(self._sock, _READ_SIZE)
        self._read_timeout.reschedule(None)  # the handling has its own timeouts
        self._idle_since = loop.time()
        await asyncio.sleep(0)  # sock_recv does not yield while data is there
        return data

    def _set_read_timeout(self) -> None:
        """Set until when the client may be silent; called whenever that changes."""
        until: float | None = None
        if self._request_began is not None:
            until = self._request_began + self._limits.request_timeout
        elif not self._requests:
            until = self._idle_since + self._limits.idle_timeout
        if not self._read_timeout.expired():
            self._read_timeout.reschedule(until)

    async def _handle(self, event: RequestEvent) -> bool:
        """Handle a message; return False if it is the last one."""
        if _LOG.isEnabledFor(logging.DEBUG):
            _LOG.debug("%s: request %s %s", self.peer, type(event).__name__, loggable(asdict(event)))
        match event:
            case Goodbye():
                return False
            case Probe():
                pass
            case BadRequest(reason, extension):
                if extension is None:
                    raise RemoteProtocolError(reason)
                await self._responder(extension).refuse("request", UsageError(reason))
            case _ if not self._is_admitted(event.extension):
                await self._reject_token(event.extension)
            case KillRequest(extension):
                await self._kill(self._responder(extension))
            case ResetTimerRequest(duration, extension):
                await self._reset_timer(duration, self._responder(extension))
            case ImageRequest() | VideoRequest():
                await self._accept(event)
        return True

    def _is_admitted(self, extension: ExtensionOptions | None) -> bool:
        policy = self._policy
        return policy.admits_originals() if extension is None else policy.admits(extension.token)

    def _responder(self, extension: ExtensionOptions | None) -> Responder:
        return Responder(self._writer, framed=extension is not None)

    async def _reject_token(self, extension: ExtensionOptions | None) -> None:
        if extension is None:
            raise AuthenticationError("the client speaks the original protocol, which has no token")
        _LOG.warning("%s sent no token, or a wrong one", self.peer)
        error = AuthenticationError("the token is missing or wrong")
        await self._responder(extension).refuse("token", error)

    async def _accept(self, request: ImageRequest | VideoRequest) -> None:
        """Queue a request for a capture, or refuse it."""
        responder = self._responder(request.extension)
        try:
            capture = check_request(request, self._limits)
        except UsageError as error:
            await responder.refuse("request", error)
            return
        self._refused = None
        extension = request.extension or ExtensionOptions()
        pending = _PendingRequest(capture, extension.port or self._media_port, extension.ssrc, responder)
        current = self._requests[0].job if self._requests else None
        if current is not None and current is self._queue.job and self._queue.streaming:
            await self._respond_busy(pending)
        elif len(self._requests) > self._limits.ahead:
            raise RemoteProtocolError(f"the client sent more than {self._limits.ahead} requests ahead")
        else:
            self._add(pending)

    def _add(self, request: _PendingRequest) -> None:
        self._requests.append(request)
        self._requests_added.set()

    async def _respond_busy(self, request: _PendingRequest) -> None:
        """Respond that a stream has the camera; a kill may follow."""
        self._refused = request
        await request.responder.busy()

    async def _kill(self, responder: Responder) -> None:
        """End the job that has the camera, then carry out the request that was refused because of it."""
        if self._writer.delivering:
            raise ConnectionError("the client killed the transfer of its own files")
        job = self._queue.job
        if job is not None and job.address != self.address and not self._policy.override:
            await responder.busy()
            return
        request, self._refused = self._refused, None
        try:
            if request is not None:
                request.job = self._job(request)
                self._queue.enqueue_first(request.job)
            if job is not None:
                await self._end(job)
            await responder.ok()
            if request is not None:
                request.answered = not request.responder.framed  # the original's one OK is for both
                self._add(request)
        except BaseException:
            if request is not None:
                self._release(request)
            raise

    async def _end(self, job: CaptureJob) -> None:
        current = self._requests[0] if self._requests else None
        if current is not None and current.job is job:
            current.killed_here = True
        await job.kill()
        if current is not None and current.killed_here:
            await current.over.wait()  # its response comes before that to the kill

    async def _reset_timer(self, seconds: float, responder: Responder) -> None:
        """Extend a running video: the original answers `BUSY`, and crashes when no video is running."""
        job = self._queue.job
        if job is not None and job.address == self.address and job.extend(seconds):
            await (responder.ok() if responder.framed else responder.busy())
        # When no video runs, an original client reads no response, and would take one for the response to its
        # next request. So it gets none.
        elif responder.framed:
            await responder.refuse(
                "request", UsageError("no video for this client is running, so none was extended")
            )

    # -- worker ---------------------------------------------------------------------------------

    async def _work(self) -> None:
        """Carry out one request after another."""
        try:
            while True:
                while not self._requests:
                    self._requests_added.clear()
                    await self._requests_added.wait()
                self._set_read_timeout()
                request = self._requests[0]
                try:
                    await self._carry_out(request)
                finally:
                    self._release(request)
                    self._requests.popleft()
                    self._idle_since = asyncio.get_running_loop().time()
                self._set_read_timeout()
        except (AsynccamError, OSError) as error:
            self._failure = error
            with suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)  # wakes the reader, which disconnects the client

    async def _carry_out(self, request: _PendingRequest) -> None:
        if request.job is None:
            if self._queue.streaming:
                await self._respond_busy(request)
                return
            request.job = self._job(request)
        job, responder = request.job, request.responder
        try:
            refuses = self._policy.when_busy is WhenBusy.REFUSE
            if refuses and self._queue.taken and self._queue.job is not job:
                raise BusyError("another client has the camera")
            self._queue.enqueue(job)
            await self._queue.wait_turn(job, self._limits.waiting_timeout)
        except (BusyError, TimeoutError) as error:
            await responder.refuse("busy", error)
            return
        try:
            if job.kind == UDP:
                await self._stream(request, job)
            else:
                async with self._camera.folder() as directory:
                    await self._capture(request, job, directory)
        except UsageError as error:
            await responder.refuse("request", error)
        except (RecordingError, StorageError) as error:
            await responder.refuse("capture", error)

    async def _stream(self, request: _PendingRequest, job: CaptureJob) -> None:
        """Send a stream to its end; the protocol has no message for the end."""

        async def on_started() -> None:
            if not request.answered:
                request.answered = True
                await request.responder.ok(request.ssrc)

        try:
            await job.stream(request.port, on_started, ssrc=request.ssrc)
        except TimeoutError as error:
            await request.responder.refuse("capture", error)
            return
        if not request.answered:
            await self._respond_killed(request)

    async def _capture(self, request: _PendingRequest, job: CaptureJob, directory: Path) -> None:
        """Capture files, then send them while other jobs have the camera."""
        try:
            files = await job.capture(directory)
        except TimeoutError as error:
            await request.responder.refuse("capture", error)
            return
        if job.killed:
            await self._respond_killed(request)
        else:
            await request.responder.send_files(files)

    async def _respond_killed(self, request: _PendingRequest) -> None:
        """Respond that there is no result; an original that killed it itself knows by its `OK`."""
        if request.responder.framed or not request.killed_here:
            await request.responder.refuse("killed", ConnectionError("a client ended this capture"))

    def _job(self, request: _PendingRequest) -> CaptureJob:
        return CaptureJob(self._camera, request.capture, self.address)

    def _release(self, request: _PendingRequest) -> None:
        if request.job is not None:
            request.job.leave()
        request.over.set()
