"""The maker's client as bare bytes on a socket: what it writes and reads, without any of our code."""

import asyncio
import json
import pickle
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from asynccam.systems.nanocam.server.server import MediaServer

PATIENCE = 30.0


class OriginalClient:
    """One connection to a media server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @property
    def sock(self) -> socket.socket:
        return self.writer.get_extra_info("socket")._sock  # type: ignore[no-any-return]

    def say(self, message: dict[str, Any] | bytes) -> None:
        self.writer.write(message if isinstance(message, bytes) else json.dumps(message).encode())

    async def word(self, expected: bytes) -> None:
        """Read exactly these bytes."""
        found = await asyncio.wait_for(self.reader.readexactly(len(expected)), PATIENCE)
        assert found == expected

    async def names(self) -> list[str]:
        """The pickled list in front of the files."""
        data = await asyncio.wait_for(self.reader.readuntil(b"e.DONE"), PATIENCE)
        names = pickle.loads(data[data.index(b"\x80\x02](") :].removesuffix(b"DONE"))
        assert isinstance(names, list)
        return names

    async def rest(self) -> bytes:
        """All there is to come up to `QUIT` that is followed by nothing; ends the connection politely."""
        data = b""
        while not data.endswith(b"QUIT"):
            piece = await asyncio.wait_for(self.reader.read(65536), PATIENCE)
            assert piece, f"the server left after {data[-40:]!r}"
            data += piece
        return data.removesuffix(b"QUIT")

    async def gone(self) -> bytes:
        """Return what comes until the server closes."""
        try:
            return await asyncio.wait_for(self.reader.read(), PATIENCE)
        except ConnectionResetError:
            return b""

    async def alive(self) -> None:
        """Check that messages are answered, by a request of asynccam's own client that changes nothing."""
        self.say({"type": "reset_timer", "duration": "1", "asynccam": {}})
        answer = await asyncio.wait_for(self.reader.readuntil(b"}"), PATIENCE)
        assert b"refused" in answer

    async def quiet(self) -> None:
        """Check that nothing was said: a kill that finds nothing is answered next."""
        self.say(b"OK")
        self.say({"type": "kill"})
        await self.word(b"OK")


@asynccontextmanager
async def original(server: MediaServer, address: str = "127.0.0.1") -> AsyncIterator[OriginalClient]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, local_addr=(address, 0))
    client = OriginalClient(reader, writer)
    try:
        yield client
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def image(frames: Any = 1, interval: Any = 1, **fields: Any) -> dict[str, Any]:
    asked = {
        "type": "image",
        "width": 64,
        "height": 48,
        "frames": frames,
        "interval": interval,
        "format": "file",
    }
    return {**asked, **fields}


def video(duration: Any, form: str = "file", **fields: Any) -> dict[str, Any]:
    return {"type": "video", "width": 160, "height": 120, "duration": duration, "format": form, **fields}


KILL = {"type": "kill"}
