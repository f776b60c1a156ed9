"""Connecting in one expression, for tests."""

from collections.abc import Generator
from typing import Any

from asynccam.net.jsonrpc import JsonRpcClient


class connect:  # noqa: N801 - a call that can be awaited or entered, like websockets.connect
    """``await connect(url)`` or ``async with connect(url) as client``; takes what `JsonRpcClient` takes."""

    def __init__(self, url: str, *, attempts: int = 1, **arguments: Any) -> None:
        self._client = JsonRpcClient(url, **arguments)
        self._attempts = attempts

    async def _start(self) -> JsonRpcClient:
        await self._client.start(attempts=self._attempts)
        return self._client

    def __await__(self) -> Generator[Any, None, JsonRpcClient]:
        return self._start().__await__()

    async def __aenter__(self) -> JsonRpcClient:
        return await self._start()

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()
