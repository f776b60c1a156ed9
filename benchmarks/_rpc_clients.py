"""The JSON-RPC clients that `benchmarks/rpc.py` and `benchmarks/client.py` compare."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import aiohttp
import jsonrpc_websocket
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websockets_connect

from asynccam.net.jsonrpc import JsonRpcClient

SDK: Final = "vendor's SDK"
OURS: Final = "asynccam"

OnNotice = Callable[[Any], object]


class Client(Protocol):
    """Operations that are measured of every client."""

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


@dataclass
class SdkCamera:
    """A camera as the vendor's SDK returns it."""

    device_path: str
    name: str
    capabilities: list[str]
    status: str
    stream_url: str | None = None

    @classmethod
    def of(cls, fields: dict[str, Any]) -> "SdkCamera":
        return cls(
            device_path=fields.get("device", ""),
            name=fields.get("name", ""),
            capabilities=fields.get("capabilities", []),
            status=fields.get("status", ""),
            stream_url=fields.get("stream_url"),
        )


class VendorSdk:
    """As the vendor's SDK does it: `websockets` as it comes, `json`, `wait_for`, awaited steps, data classes.

    Two things are its better side: the server here does not compress, which the SDK would, and the SDK reads
    ``device``, as the service names it.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self.on_camera_status_update: Callable[[SdkCamera], Awaitable[None]] | None = None
        self._socket = socket
        self._number = 0
        self._pending: dict[int, asyncio.Future[Any]] = {}
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def connect(cls, url: str) -> "VendorSdk":
        sdk = cls(await websockets_connect(url))
        await sdk.call("authenticate", {"token": "token", "auth_type": "jwt"})
        await sdk.ping()
        return sdk

    @classmethod
    async def open(cls, url: str, on_notice: OnNotice) -> "VendorSdk":
        async def updated(camera: SdkCamera) -> None:
            on_notice(camera)

        sdk = await cls.connect(url)
        sdk.on_camera_status_update = updated
        return sdk

    async def _read(self) -> None:
        async for message in self._socket:
            await self._process(message)

    async def _process(self, message: str | bytes) -> None:
        try:
            document = json.loads(message)
            if "id" in document and "result" in document:
                await self._answered(document)
            elif "method" in document and "id" not in document:
                await self._notified(document)
        except json.JSONDecodeError:
            print(f"not JSON: {message!r}", file=sys.stderr)

    async def _answered(self, document: dict[str, Any]) -> None:
        number = document["id"]
        if number in self._pending:
            future = self._pending.pop(number)
            if not future.done():
                if "error" in document:
                    future.set_exception(RuntimeError(document["error"].get("message")))
                else:
                    future.set_result(document["result"])

    async def _notified(self, document: dict[str, Any]) -> None:
        method, params = document.get("method"), document.get("params", {})
        if method == "camera_status_update" and self.on_camera_status_update:
            await self.on_camera_status_update(SdkCamera.of(params))

    async def call(self, method: str, params: dict[str, Any] | None = None) -> Any:
        self._number += 1
        number = self._number
        request = {"jsonrpc": "2.0", "id": number, "method": method, "params": params or {}}
        future = self._pending[number] = asyncio.get_running_loop().create_future()
        try:
            await self._socket.send(json.dumps(request))
            return await asyncio.wait_for(future, timeout=30.0)
        except Exception:
            self._pending.pop(number, None)
            raise

    async def ping(self) -> object:
        return await self.call("ping")

    async def get_camera_list(self) -> list[SdkCamera]:
        answer = await self.call("get_camera_list")
        return [SdkCamera.of(fields) for fields in answer["cameras"]]

    async def close(self) -> None:
        await self._socket.close()
        await self._reader


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
    OURS: Ours.open,
    "raw websockets": RawWebsockets.open,
    SDK: VendorSdk.open,
    "jsonrpc-websocket": JsonRpcWebsocket.open,
    "bare aiohttp": BareAiohttp.open,
}
