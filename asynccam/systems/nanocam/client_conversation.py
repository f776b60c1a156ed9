"""A media client's conversation with its server: who may ask when, and what may be asked of an original.

See docs/protocols/nanocam.md, "What the original server was seen to do".
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from asynccam.errors import (
    AsynccamError,
    AuthenticationError,
    BusyError,
    ConnectionError,
    DeviceError,
    RemoteProtocolError,
    StateError,
    TimeoutError,
    TransferError,
)
from asynccam.systems.nanocam.client_session import ClientTimeouts, Link
from asynccam.systems.nanocam.protocol import (
    ImageRequest,
    KillRequest,
    Ours,
    Request,
    ResetTimerRequest,
    VideoRequest,
)
from asynccam.systems.nanocam.reply_parser import ReplyEvent
from asynccam.systems.nanocam.wire_answers import (
    Busy,
    Ok,
    Refused,
)

_MARGIN: Final = 1.5
"""Seconds before an original's stream ends by itself when a request about it comes too late: it would die."""
_RETRY: Final = 0.25
_SIZE: Final = (1920, 1080)
"""Of a stream that nobody looks at."""


class Conversation:
    """One request at a time, on a connection that is made again when it was lost.

    Args:
        timeouts: How patient it is.

    Attributes:
        host: The server.
        port: Its TCP port for messages.
        ours: What is added to requests for a server of our own.
        stream_until: Loop time at which this client's stream ends by itself; 0 for none.
    """

    def __init__(self, host: str, port: int, ours: Ours, timeouts: ClientTimeouts) -> None:
        self.host = host
        self.port = port
        self.ours = ours
        self.stream_until = 0.0
        self._timeouts = timeouts
        self._link: Link | None = None
        self._turn = asyncio.Lock()
        self._open = False

    @property
    def framed(self) -> bool | None:
        """Whether the server is one of ours; None before its first answer."""
        return None if self._link is None else self._link.framed

    @property
    def address(self) -> str | None:
        """The server's IP address, from which its streams come too; None while not connected."""
        return None if self._link is None else self._link.address

    async def connect(self) -> None:
        """Connect; harmless when connected.

        Raises:
            ConnectionError, TimeoutError: It cannot be reached.
            UsageError: Host or port cannot be right.
        """
        async with self._turn:
            await self._connect()

    async def aclose(self) -> None:
        """Say goodbye, after an original has sent what it owes or ``timeouts.leave`` is over."""
        self._open = False
        link, self._link = self._link, None
        if link is None:
            return
        try:
            if link.owed and not link.framed:
                async with asyncio.timeout(self._timeouts.leave):
                    await link.settle()
        except (AsynccamError, OSError):
            pass  # it is gone, or takes too long: that is all that could be done for it
        finally:
            link.close()

    def part_from_ours(self) -> None:
        """Leave a server of our own, which ends what it does for this client."""
        if self._link is not None and self._link.framed:
            self._drop(self._link)

    @asynccontextmanager
    async def exchange(self) -> AsyncIterator[Link]:
        """The connection, for one request and its answer.

        Raises:
            StateError: `connect` was not called, or `aclose` was.
        """
        async with self._turn:
            if not self._open:
                raise StateError("connect comes before requests")
            link = await self._connect()
            if link.owed:
                try:
                    await link.settle()
                except AsynccamError:
                    self._drop(link)
                    link = await self._connect()
            try:
                yield link
            except (ConnectionError, TimeoutError, TransferError, RemoteProtocolError):
                self._drop(link)
                raise
            except BaseException:
                # An original server would die if it were left now: the rest is read before the next request.
                if link.owed and link.framed:
                    self._drop(link)
                raise

    async def begin(
        self, link: Link, request: ImageRequest | VideoRequest, timeout: float, *, override: bool
    ) -> ReplyEvent:
        """Ask for a capture, if need be in the place of a stream.

        Args:
            link: From `exchange`.
            request: What is asked.
            timeout: Seconds until the answer begins.
            override: Whether a stream that has the camera is ended.

        Raises:
            BusyError: A stream has the camera.
            DeviceError, AuthenticationError: A server of our own refuses.
            ConnectionError, TimeoutError, RemoteProtocolError: As `Link.answer`.
        """
        answer = await self._ask(link, request, timeout)
        if not isinstance(answer, Busy):
            return answer
        if not override:
            raise BusyError(f"{link.peer} streams to somebody; override would end that")
        if link.framed:
            await self._ask_kill(link)
            link.owed += 1  # the request that was refused runs now
            answer = await self._answer(link, timeout)
        elif isinstance(request, VideoRequest) and request.format == "udp":
            await self._ask_kill(link)  # one OK for both
            return Ok()
        else:
            await self._displace(link)
            answer = await self._ask_until_free(link, request, timeout)
        if isinstance(answer, Busy):
            raise BusyError(f"{link.peer} is still busy")
        return answer

    async def reset_timer(self, duration: float) -> None:
        """Ask for so many more seconds of this client's stream.

        Raises:
            StateError: An original server would die of it: it has no stream running, or it is about to end.
            DeviceError: A server of our own has none running.
            BusyError, ConnectionError, TimeoutError, RemoteProtocolError: As everywhere.
        """
        request = ResetTimerRequest(duration, self.ours)
        async with self.exchange() as link:
            if not link.framed and asyncio.get_running_loop().time() > self.stream_until - _MARGIN:
                raise StateError("no stream is being received, or it is about to end")
            answer = await self._ask(link, request, self._timeouts.answer)
            if link.framed and isinstance(answer, Busy):
                raise BusyError(f"{link.peer} does not let this client have a longer stream")
            if not isinstance(answer, Ok | Busy):  # the original says BUSY, and does it
                raise unexpected(answer, link.peer)
        self.stream_until = asyncio.get_running_loop().time() + duration

    async def kill(self) -> None:
        """End the stream that has the camera; harmless when there is none.

        Raises:
            BusyError: A server of our own does not let this client end it.
            ConnectionError, TimeoutError, RemoteProtocolError: As everywhere.
        """
        async with self.exchange() as link:
            if not link.framed:
                await self._displace(link)
            if link.framed:
                await self._ask_kill(link)

    async def _connect(self) -> Link:
        if self._link is None:
            if not self.host:
                raise StateError("no server is named: set_hostip comes before connect")
            self._link = await Link.open(self.host, self.port, self._timeouts)
            self._open = True
        return self._link

    def _drop(self, link: Link) -> None:
        link.close()
        if self._link is link:
            self._link = None

    async def _displace(self, link: Link) -> None:
        """Put a stream of a second into the place of the one that runs: a kill an original survives."""
        short = VideoRequest(1, *_SIZE, "udp", self.ours)
        answer = await self._ask(link, short, self._timeouts.answer)
        if isinstance(answer, Busy):
            await self._ask_kill(link)
            if link.framed:
                link.owed += 1
                answer = await self._answer(link, self._timeouts.answer)

    async def _ask_until_free(
        self, link: Link, request: ImageRequest | VideoRequest, timeout: float
    ) -> ReplyEvent:
        """Ask again until the short stream is over."""
        until = asyncio.get_running_loop().time() + self._timeouts.answer
        while True:
            answer = await self._ask(link, request, timeout)
            if not isinstance(answer, Busy) or asyncio.get_running_loop().time() > until:
                return answer
            await asyncio.sleep(_RETRY)

    async def _ask_kill(self, link: Link) -> None:
        answer = await self._ask(link, KillRequest(self.ours), self._timeouts.answer)
        if isinstance(answer, Busy):
            raise BusyError(f"{link.peer} does not let this client end another one's stream")
        if not isinstance(answer, Ok):
            raise unexpected(answer, link.peer)

    async def _ask(self, link: Link, request: Request, timeout: float) -> ReplyEvent:
        await link.send(request, timeout)
        return await self._answer(link, timeout)

    async def _answer(self, link: Link, timeout: float) -> ReplyEvent:
        answer = await link.answer(timeout, "answer")
        if isinstance(answer, Refused):
            raise _refusal(answer, link.peer)
        return answer


def _refusal(answer: Refused, peer: str) -> AsynccamError:
    text = f"{peer}: {answer.reason}"
    if answer.kind == "token":
        return AuthenticationError(text)
    if answer.kind in ("busy", "killed"):
        return BusyError(text)
    return DeviceError(text, status=answer.kind)


def unexpected(answer: ReplyEvent, peer: str) -> RemoteProtocolError:
    """The error for an answer to something else."""
    return RemoteProtocolError(f"{peer} answered {type(answer).__name__}, which is no answer to that")
