"""A simulated MediaMTX service to talk to by hand: plain JSON through aiohttp's client, own JWTs."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import jwt

from asynccam.systems.mediamtx.simulator.behavior import ServiceFaults, ServiceWays
from asynccam.systems.mediamtx.simulator.simulator import MediaMTXSimulator

SECRET = "a secret of at least thirty-two bytes, for tests"
KEYS = {"viewer-key": "viewer", "operator-key": "operator", "admin-key": "admin"}
ANSWER_SECONDS = 10.0


def token(role: str = "admin", *, lifetime: float = 600.0, secret: str = SECRET, **claims: Any) -> str:
    """A JWT made here, not by the simulator."""
    now = time.time()
    return jwt.encode({"role": role, "iat": now, "exp": now + lifetime, **claims}, secret, algorithm="HS256")


@asynccontextmanager
async def simulator(
    generation: int,
    *,
    directory: Path | None = None,
    clip: bytes | None = b"a recording",
    picture: bytes | None = None,
    cameras: int | list[str] = 2,
    faults: ServiceFaults | None = None,
    http_port: int | None = None,
    **ways: Any,
) -> AsyncIterator[MediaMTXSimulator]:
    """A started service; unless ``clip`` is None its recordings are made of these bytes.

    Its pictures are made of ``picture``, or of ``clip``.
    """
    chosen = ServiceWays.of(generation)
    for name, value in ways.items():
        setattr(chosen, name, value)
    sample = None
    if clip is not None:
        assert directory is not None, "a clip needs a directory"
        sample = directory / "sample"
        sample.write_bytes(clip)
    shown = sample
    if picture is not None:
        assert directory is not None, "a picture needs a directory"
        shown = directory / "shown"
        shown.write_bytes(picture)
    async with MediaMTXSimulator(
        generation=generation,
        directory=directory / "service" if directory is not None else None,
        cameras=cameras,
        secret=SECRET,
        api_keys=KEYS,
        ways=chosen,
        faults=faults,
        clip=sample,
        picture=shown,
        http_port=http_port,
    ) as service:
        yield service


class Talker:
    """One WebSocket to a service, through aiohttp's client.

    Attributes:
        notices: Notifications that came while an answer was awaited.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.notices: list[dict[str, Any]] = []
        self._next = 0

    async def send(self, method: str, **params: Any) -> int:
        """Send a request and do not wait."""
        self._next += 1
        text = f'{{"jsonrpc":"2.0","id":{self._next},"method":"{method}","params":{json.dumps(params)}}}'
        await self.socket.send_str(text)
        return self._next

    async def receive(self) -> dict[str, Any]:
        """The next document, whatever it is."""
        document = json.loads(await self.socket.receive_str(timeout=ANSWER_SECONDS))
        assert isinstance(document, dict)
        assert document["jsonrpc"] == "2.0"
        return document

    async def answer_to(self, request: int) -> dict[str, Any]:
        """The answer to a request; notifications before it are kept."""
        while True:
            document = await self.receive()
            if "method" in document:
                assert "id" not in document
                self.notices.append(document)
                continue
            assert document["id"] == request
            return document

    async def ask(self, method: str, **params: Any) -> Any:
        """Call and give the result."""
        answer = await self.answer_to(await self.send(method, **params))
        assert "error" not in answer, answer
        return answer["result"]

    async def refused(self, method: str, **params: Any) -> dict[str, Any]:
        """Call and give the error."""
        answer = await self.answer_to(await self.send(method, **params))
        assert "result" not in answer, answer
        error = answer["error"]
        assert isinstance(error, dict)
        assert isinstance(error["message"], str)
        return error

    async def code(self, method: str, **params: Any) -> int:
        """Call and give the error's number."""
        return int((await self.refused(method, **params))["code"])

    async def notice(self) -> dict[str, Any]:
        """The next notification."""
        document = self.notices.pop(0) if self.notices else await self.receive()
        assert "method" in document, document
        return document

    async def closed(self) -> int | None:
        """Wait until the service has closed the connection; with which code."""
        while True:
            message = await self.socket.receive(timeout=ANSWER_SECONDS)
            if message.type in (
                aiohttp.WSMsgType.CLOSE,
                aiohttp.WSMsgType.CLOSED,
                aiohttp.WSMsgType.ERROR,
            ):
                return self.socket.close_code


@asynccontextmanager
async def talker(service: MediaMTXSimulator, role: str | None = "admin") -> AsyncIterator[Talker]:
    """A connection, signed in unless ``role`` is None."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(service.url, max_msg_size=0, autoping=False) as socket,
    ):
        one = Talker(socket)
        if role is not None:
            result = await one.ask("authenticate", auth_token=token(role))
            assert result["authenticated"] is True
        yield one
