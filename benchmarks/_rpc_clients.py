"""The JSON-RPC clients that `benchmarks/rpc.py` compares, behind one face."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import aiohttp
import jsonrpc_websocket
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websockets_connect

from asynccam.net.jsonrpc import JsonRpcClient

OnNotice = Callable[[dict[str, Any]], object]


class Client(Protocol):
    """What is measured of every case."""

    async def call(self, method: str, params: dict[str, Any]) -> Any: ...

    async def close(self) -> None: ...


class Ours:
    def __init__(self, client: JsonRpcClient) -> None:
        self._client = client
        self.call = client.call

    @classmethod
    async def open(cls, url: str, on_notice: OnNotice) -> "Ours":
        def notified(method: str, params: Any) -> None:
            on_notice(params)

        client = JsonRpcClient(url, on_notification=notified)
        await client.start()
        return cls(client)

    async def close(self) -> None:
        await self._client.aclose()


class RawWebsockets:
    """The floor: a reader, a table of futures, `json`, and no deadline."""

    def __init__(self, socket: ClientConnection, on_notice: OnNotice) -> None:
        self._socket = socket
        self._on_notice = on_notice
        self._next = 0
        self._pending: dict[int, asyncio.Future[Any]] = {}
        self._reader = asyncio.ensure_future(self._read())

    @classmethod
    async def open(cls, url: str, on_notice: OnNotice) -> "RawWebsockets":
        return cls(await websockets_connect(url, compression=None, max_size=None), on_notice)

    async def _read(self) -> None:
        async for message in self._socket:
            await self._got(json.loads(message))

    async def _got(self, document: dict[str, Any]) -> None:
        if "id" in document:
            self._pending.pop(document["id"]).set_result(document["result"])
        else:
            self._on_notice(document["params"])

    async def call(self, method: str, params: dict[str, Any]) -> Any:
        self._next += 1
        future = self._pending[self._next] = asyncio.get_running_loop().create_future()
        request = {"jsonrpc": "2.0", "method": method, "params": params, "id": self._next}
        await self._socket.send(json.dumps(request))
        return await future

    async def close(self) -> None:
        self._reader.cancel()
        await self._socket.close()


class OriginalSdk(RawWebsockets):
    """The service's own SDK: as above, `wait_for` a call, data classes, awaited callbacks, its defaults."""

    @classmethod
    async def open(cls, url: str, on_notice: OnNotice) -> "OriginalSdk":
        return cls(await websockets_connect(url), on_notice)

    async def _got(self, document: dict[str, Any]) -> None:
        if "id" in document and document["id"] in self._pending:
            future = self._pending.pop(document["id"])
            if not future.done():
                future.set_result(document)
        elif "method" in document:
            await self._notify(document)

    async def _notify(self, document: dict[str, Any]) -> None:
        self._on_notice(document["params"])

    async def call(self, method: str, params: dict[str, Any]) -> Any:
        self._next += 1
        number = self._next
        future = self._pending[number] = asyncio.get_running_loop().create_future()
        request = {"jsonrpc": "2.0", "method": method, "params": params, "id": number}
        try:
            await self._socket.send(json.dumps(request))
            return (await asyncio.wait_for(future, 30.0)).get("result", {})
        finally:
            self._pending.pop(number, None)


class JsonRpcWebsocket:
    """The library jsonrpc-websocket."""

    def __init__(self, server: Any, session: aiohttp.ClientSession) -> None:
        self._server = server
        self._session = session

    @classmethod
    async def open(cls, url: str, on_notice: OnNotice) -> "JsonRpcWebsocket":
        session = aiohttp.ClientSession()
        server = jsonrpc_websocket.Server(url, session=session, timeout=30)
        server.camera_status_update = lambda **params: on_notice(params)
        await server.ws_connect()
        return cls(server, session)

    async def call(self, method: str, params: dict[str, Any]) -> Any:
        return await getattr(self._server, method)(**params)

    async def close(self) -> None:
        await self._server.close()
        await self._session.close()


class BareAiohttp:
    """aiohttp's own socket with the least around it."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        socket: "aiohttp.ClientWebSocketResponse[Any]",
        on_notice: OnNotice,
    ) -> None:
        self._session = session
        self._socket = socket
        self._on_notice = on_notice
        self._next = 0
        self._pending: dict[int, asyncio.Future[Any]] = {}
        self._reader = asyncio.ensure_future(self._read())

    @classmethod
    async def open(cls, url: str, on_notice: OnNotice) -> "BareAiohttp":
        session = aiohttp.ClientSession()
        return cls(session, await session.ws_connect(url, max_msg_size=0), on_notice)

    async def _read(self) -> None:
        async for message in self._socket:
            document = json.loads(message.data)
            if "id" in document:
                self._pending.pop(document["id"]).set_result(document["result"])
            else:
                self._on_notice(document["params"])

    async def call(self, method: str, params: dict[str, Any]) -> Any:
        self._next += 1
        future = self._pending[self._next] = asyncio.get_running_loop().create_future()
        request = {"jsonrpc": "2.0", "method": method, "params": params, "id": self._next}
        await self._socket.send_str(json.dumps(request))
        return await future

    async def close(self) -> None:
        self._reader.cancel()
        await self._socket.close()
        await self._session.close()


CASES: Final[dict[str, Callable[[str, OnNotice], Awaitable[Client]]]] = {
    "asynccam": Ours.open,
    "raw websockets": RawWebsockets.open,
    "original SDK": OriginalSdk.open,
    "jsonrpc-websocket": JsonRpcWebsocket.open,
    "bare aiohttp": BareAiohttp.open,
}
