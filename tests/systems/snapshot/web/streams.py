"""Reads Server-Sent Events as the standard says, for tests."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.systems.snapshot.web.rig import Rig


@dataclass(frozen=True)
class Message:
    """One event."""

    kind: str
    data: Any
    id: str | None


class Stream:
    """An open stream."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def lines(self) -> list[str]:
        """The lines up to the next empty one."""
        found = []
        async with asyncio.timeout(30):
            while line := (await self._response.content.readline()).decode().rstrip("\n"):
                found.append(line)
        return found

    async def next(self) -> Message:
        """The next event; signs of life are left out."""
        while True:
            fields = dict(line.split(": ", 1) for line in await self.lines() if not line.startswith(":"))
            if "event" in fields:
                return Message(fields["event"], json.loads(fields["data"]), fields.get("id"))

    async def until(self, kind: str, **wanted: Any) -> Message:
        """The next event of a kind whose data has these values."""
        while True:
            message = await self.next()
            if message.kind == kind and wanted.items() <= message.data.items():
                return message


@asynccontextmanager
async def stream(rig: Rig, last: str | None = None) -> AsyncIterator[Stream]:
    """Listen to a server, from an event on if one is named."""
    headers = {} if last is None else {"Last-Event-ID": last}
    async with rig.http.get("/api/v1/events", headers=headers) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        yield Stream(response)
