"""One client of a simulated service: frames in, calls, frames out, and the trouble between."""

import asyncio
import itertools
import json
import struct
from collections import deque
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from aiohttp import web

from asynccam.runtime.tasks import TaskScope
from asynccam.systems.mediamtx.simulator.access import Credential
from asynccam.systems.mediamtx.simulator.dispatch import Dispatcher
from asynccam.systems.mediamtx.simulator.errors import Refusal
from asynccam.systems.mediamtx.simulator.service import Service

_BATCH: Final = 16
"""Messages that are read in one turn of the loop."""
_UNREAD: Final = 100_000
"""Documents that may wait for a client that does not read; then it is dropped."""
_GARBAGE: Final = (
    "this is not JSON {",
    '{"jsonrpc": "2.0", "id": "nobody waits for this", "result": 1}',
    '{"jsonrpc": "2.0", "id": null, "error": {"code": -32603, "message": "Internal error"}}',
    '[1, "two", null]',
)


@dataclass(frozen=True, slots=True)
class _Frame:
    """What is to be sent, and how."""

    text: str
    binary: bool = False
    cut: bool = False


class ClientConnection:
    """A WebSocket connection to the service; see `asynccam.systems.mediamtx.simulator.calls.Caller`.

    Args:
        number: Which one it is, counted from 1.
        socket: Prepared.
        request: What it began as.
        service: What calls are carried out by.
        dispatcher: Reads them.
        flowing: Cleared while the service is frozen.
    """

    def __init__(
        self,
        number: int,
        socket: web.WebSocketResponse,
        request: web.Request,
        service: Service,
        dispatcher: Dispatcher,
        flowing: asyncio.Event,
    ) -> None:
        self.number = number
        self.credential: Credential | None = None
        self.spoilt = False
        self.topics: dict[str, dict[str, Any]] = {}
        self.recent: deque[float] = deque()
        self._socket = socket
        self._request = request
        self._service = service
        self._dispatcher = dispatcher
        self._flowing = flowing
        self._turn = asyncio.Lock()
        self._outbox: asyncio.Queue[_Frame] = asyncio.Queue(_UNREAD)

    async def run(self) -> None:
        """Serve the client until it is gone. Calls of its that are under way are carried out to the end."""
        async with TaskScope(f"client {self.number}") as scope:
            scope.spawn(self._write(), name="writer")
            for number in itertools.count(1):
                message = await self._socket.receive()
                if number % _BATCH == 0:
                    await asyncio.sleep(0)  # aiohttp does not suspend while messages are there
                await self._flowing.wait()
                if message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                    self._service.scope.spawn(self._serve(message.data), name=f"call of client {self.number}")
                elif message.type is aiohttp.WSMsgType.PING:
                    await self._pong(message.data)
                elif message.type is not aiohttp.WSMsgType.PONG:
                    return

    def post(self, document: Any) -> None:
        """Send a document after all that was posted before; never waits."""
        self._put(_Frame(json.dumps(document)))

    def drop(self) -> None:
        """Cut the socket without a word."""
        if self._request.transport is not None:
            self._request.transport.abort()

    async def aclose(self, code: int, reason: str) -> None:
        """Say goodbye."""
        if not self._socket.closed:
            await self._socket.close(code=code, message=reason.encode())

    # -- inside -----------------------------------------------------------------------------------

    async def _pong(self, data: bytes) -> None:
        try:
            await self._socket.pong(data)
        except ConnectionError:
            self.drop()  # and the reader hears of it

    async def _serve(self, data: str | bytes) -> None:
        try:
            document = self._dispatcher.read(data)
        except Refusal as refusal:
            self.post({"jsonrpc": "2.0", "error": refusal.document(self._service.ways), "id": None})
            return
        if not self._service.ways.serial:
            await self._carry_out(document)
            return
        async with self._turn:
            await self._carry_out(document)

    async def _carry_out(self, document: dict[str, Any]) -> None:
        faults, method = self._service.faults, str(document.get("method"))
        if method in faults.silent:
            return
        answer, after = await self._dispatcher.answer(self, document)
        if faults.answer_delay:
            await asyncio.sleep(faults.answer_delay)
        if "id" in document:
            self._post_answer(answer, cut="result" in answer and method in faults.cut_answers)
        for action in after:
            action()

    def _post_answer(self, answer: dict[str, Any], *, cut: bool) -> None:
        faults = self._service.faults
        if faults.string_ids:
            answer["id"] = str(answer["id"])
        if faults.metadata:
            answer["metadata"] = {"processing_time_ms": 1, "server": "simulated"}
        for text in _GARBAGE if faults.garbage else ():
            self._put(_Frame(text))
        for _ in range(2 if faults.answer_twice else 1):
            self._put(_Frame(json.dumps(answer), faults.binary, cut))

    def _put(self, frame: _Frame) -> None:
        try:
            self._outbox.put_nowait(frame)
        except asyncio.QueueFull:
            self.drop()

    async def _write(self) -> None:
        while not self._socket.closed:
            frame = await self._outbox.get()
            await self._flowing.wait()
            try:
                if frame.cut:
                    self._cut(frame)
                elif frame.binary:
                    await self._socket.send_bytes(frame.text.encode())
                else:
                    await self._socket.send_str(frame.text)
            except ConnectionError:
                return  # it went; the reader hears of it too

    def _cut(self, frame: _Frame) -> None:
        """Send the first half of a frame, and no more."""
        payload = frame.text.encode()
        if len(payload) > 0xFFFF:
            head = struct.pack("!BBQ", 0x81, 127, len(payload))
        elif len(payload) > 125:
            head = struct.pack("!BBH", 0x81, 126, len(payload))
        else:
            head = struct.pack("!BB", 0x81, len(payload))
        transport = self._request.transport
        if transport is not None:
            transport.write(head + payload[: len(payload) // 2])
        self.drop()
