"""MediaMTX Camera Services of both generations, their words written out by hand.

They hold none of asynccam's own code, so that a mistake in it cannot cancel itself out.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

Request = dict[str, Any]
Words = str | None
"""What stands beside ``jsonrpc`` and ``id`` in an answer; None for no answer."""
Handler = Callable[["Visitor", Request], Words | Awaitable[Words]]

TOKEN = "good-token"
CAMERAS_1 = (
    '"result": {"cameras": [{"device": "/dev/video0", "status": "CONNECTED", "name": "Camera 0",'
    ' "resolution": "1920x1080", "fps": 30, "streams": {"rtsp": "rtsp://h:8554/camera0",'
    ' "webrtc": "http://h:8889/camera0/webrtc", "hls": "http://h:8888/camera0"}}],'
    ' "total": 1, "connected": 1}'
)
CAMERAS_2 = (
    '"result": {"cameras": [{"device": "camera0", "status": "CONNECTED", "name": "Camera 0",'
    ' "resolution": "1920x1080", "fps": 30, "streams": {"rtsp": "rtsp://h:8554/camera0",'
    ' "hls": "https://h:8888/camera0"}}], "total": 1, "connected": 1}'
)


def error(code: int, message: str = "no", data: str = "null") -> str:
    """The words of a refusal."""
    return f'"error": {{"code": {code}, "message": "{message}", "data": {data}}}'


class Visitor:
    """One connection as the service sees it."""

    def __init__(self, connection: ServerConnection) -> None:
        self.connection = connection
        self.signed_in = False
        self.calls = 0

    async def tell(self, method: str, params: str) -> None:
        """Send a notification."""
        await self.connection.send(f'{{"jsonrpc": "2.0", "method": "{method}", "params": {params}}}')

    def drop(self) -> None:
        """Go without a word."""
        self.connection.transport.abort()


class Peer:
    """A service; what it answers to each method can be replaced in `answers`.

    Attributes:
        requests: Everything received, in order.
        visitors: Connections open now.
        valid: Tokens that are accepted.
    """

    generation = 0

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.visitors: list[Visitor] = []
        self.accepted = 0
        self.valid = {TOKEN}
        self.port = 0
        self.answers: dict[str, Handler] = {}
        self.tls: ssl.SSLContext | None = None
        self._server: Server | None = None

    def called(self, method: str) -> list[Request]:
        """The calls of one method."""
        return [request for request in self.requests if request.get("method") == method]

    def refuses(self, visitor: Visitor, request: Request) -> Words:
        """Return what a call is refused with before it is looked at, or None."""
        raise NotImplementedError

    async def start(self) -> None:
        self._server = await serve(
            self._serve, "127.0.0.1", self.port, compression=None, ssl=self.tls, max_size=None
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self.drop()
        self._server.close()
        await self._server.wait_closed()

    def drop(self) -> None:
        """Drop every connection without a word."""
        for visitor in self.visitors:
            visitor.drop()

    async def tell(self, method: str, params: str) -> None:
        """Notify every connection."""
        for visitor in tuple(self.visitors):
            await visitor.tell(method, params)

    async def _serve(self, connection: ServerConnection) -> None:
        visitor = Visitor(connection)
        self.visitors.append(visitor)
        self.accepted += 1
        self.entered(visitor)
        try:
            with suppress(ConnectionClosed):
                async for message in connection:  # one call after the other
                    request = json.loads(message)
                    self.requests.append(request)
                    await self._answer(visitor, request)
        finally:
            self.visitors.remove(visitor)

    def entered(self, visitor: Visitor) -> None:
        """A new connection."""

    async def _answer(self, visitor: Visitor, request: Request) -> None:
        handler = self.answers.get(request["method"])
        if handler is None:
            words: Words = error(-32601, "Method not found")
        else:
            words = self.refuses(visitor, request)
            if words is None:
                given = handler(visitor, request)
                words = given if given is None or isinstance(given, str) else await given
        if words is not None:
            await visitor.connection.send(f'{{"jsonrpc": "2.0", "id": {json.dumps(request["id"])}, {words}}}')


class Gen1(Peer):
    """The Python service.

    Attributes:
        faulty: Whether it marks the most recently connected client as signed in, whoever asked.
        limit: Calls a connection may make.
    """

    generation = 1

    def __init__(self) -> None:
        super().__init__()
        self.faulty = False
        self.limit = 10_000
        self.expired: set[str] = set()
        self.answers |= {
            "authenticate": self._authenticate,
            "ping": lambda visitor, request: '"result": "pong"',
            "get_camera_list": lambda visitor, request: CAMERAS_1,
            "get_camera_status": lambda visitor, request: (
                '"result": {"device": "/dev/video0", "status": "CONNECTED", "name": "Camera 0",'
                ' "streams": {"rtsp": "rtsp://h:8554/camera0", "hls": "http://h:8888/camera0"},'
                ' "metrics": {"bytes_sent": 12, "readers": [{}, {}], "uptime": 5}}'
            ),
            "start_recording": lambda visitor, request: (
                '"result": {"device": "/dev/video0", "session_id": "s-1", "filename": "a.mp4",'
                ' "status": "STARTED", "start_time": "2025-01-15T14:30:00Z", "format": "mp4"}'
            ),
            "stop_recording": self._stop_recording,
            "take_snapshot": lambda visitor, request: (
                '"result": {"device": "/dev/video0", "filename": "s.jpg", "status": "SUCCESS",'
                ' "timestamp": "2025-01-15T14:30:00Z", "file_size": 3, "file_path": "/opt/s.jpg"}'
            ),
        }

    def refuses(self, visitor: Visitor, request: Request) -> Words:
        visitor.calls += 1
        if visitor.calls > self.limit:
            return error(-32002, "Rate limit exceeded")
        if request["method"] == "authenticate":
            return None
        token = (request.get("params") or {}).get("auth_token")
        if token in self.valid and token not in self.expired:
            visitor.signed_in = True
        return None if visitor.signed_in else error(-32001, "Authentication required")

    def expire(self, token: str) -> None:
        """A token's time is over: connections it was used on are refused from now on."""
        self.valid.discard(token)
        for visitor in self.visitors:
            visitor.signed_in = False

    def _authenticate(self, visitor: Visitor, request: Request) -> Words:
        if request["params"].get("auth_token") not in self.valid:
            return '"result": {"authenticated": false, "error": "Invalid or expired JWT token"}'
        (self.visitors[-1] if self.faulty else visitor).signed_in = True
        return '"result": {"authenticated": true, "role": "operator"}'

    async def _stop_recording(self, visitor: Visitor, request: Request) -> Words:
        await visitor.tell(
            "recording_status_update",
            '{"device": "/dev/video0", "status": "STOPPED", "filename": "a.mp4", "duration": 3}',
        )
        return (
            '"result": {"device": "/dev/video0", "session_id": null, "filename": "a.mp4",'
            ' "status": "STOPPED", "start_time": "2025-01-15T14:30:00Z", "end_time": "2025-01-15T14:30:03Z",'
            ' "duration": 3, "file_size": 5}'
        )


class Gen2(Peer):
    """The Go service."""

    generation = 2

    def __init__(self) -> None:
        super().__init__()
        self.strict = True
        self.answers |= {
            "authenticate": self._authenticate,
            "ping": lambda visitor, request: '"result": "pong"',
            "get_camera_list": lambda visitor, request: CAMERAS_2,
            "get_camera_status": lambda visitor, request: (
                '"result": {"device": "camera0", "status": "CONNECTED", "name": "Camera 0"}'
            ),
            "get_subscription_stats": lambda visitor, request: '"result": {"global_stats": {}}',
            "subscribe_events": lambda visitor, request: '"result": {"subscribed": true}',
            "unsubscribe_events": lambda visitor, request: '"result": {"unsubscribed": true}',
        }

    def refuses(self, visitor: Visitor, request: Request) -> Words:
        if request["method"] in ("authenticate", "ping") or visitor.signed_in:
            return None
        return error(-32001, "auth_required", '{"reason": "token expired"}')

    def expire(self, token: str) -> None:
        """A token's time is over."""
        self.valid.discard(token)
        for visitor in self.visitors:
            visitor.signed_in = False

    def _authenticate(self, visitor: Visitor, request: Request) -> Words:
        params = request["params"]
        if self.strict and set(params) != {"auth_token"}:
            return error(-32602, "Invalid params")
        if params["auth_token"] not in self.valid:
            return error(-32001, "auth_failed", '{"reason": "invalid token"}')
        visitor.signed_in = True
        return '"result": {"authenticated": true, "role": "admin", "session_id": "x"}'


P = TypeVar("P", bound=Peer)


@asynccontextmanager
async def running(peer: P) -> AsyncIterator[P]:
    """The peer, started, and stopped at the end."""
    await peer.start()
    try:
        yield peer
    finally:
        await peer.stop()


async def never(visitor: Visitor, request: Request) -> Words:
    """A handler that does not answer; the service goes on with the next call."""
    return None


class Held:
    """A handler that answers when it is let go.

    Attributes:
        asked: Set when the call has arrived.
    """

    def __init__(self, words: str) -> None:
        self.asked = asyncio.Event()
        self.let_go = asyncio.Event()
        self._words = words

    async def __call__(self, visitor: Visitor, request: Request) -> Words:
        self.asked.set()
        await self.let_go.wait()
        return self._words
