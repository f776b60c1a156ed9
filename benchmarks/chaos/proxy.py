"""A network between a controller and a server that can be cut at any moment."""

import asyncio
from contextlib import suppress
from typing import Final

_PIECE: Final = 65536
HOST: Final = "127.0.0.1"


class Proxy:
    """Forwards TCP connections to a port.

    Attributes:
        port: Where it listens.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._refusing = False
        self._open = asyncio.Event()
        self._open.set()

    async def start(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._connected, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Reset all connections, and each new one until `mend`."""
        self._refusing = True
        for writer in tuple(self._writers):
            writer.transport.abort()

    def mute(self) -> None:
        """Forward nothing until `mend`; connections stand, and new ones are accepted."""
        self._open.clear()

    def mend(self) -> None:
        """Work again."""
        self._refusing = False
        self._open.set()

    async def aclose(self) -> None:
        """End all of it."""
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            if self._refusing:
                return
            await self._open.wait()
            with suppress(OSError):
                onward, back = await asyncio.open_connection(HOST, self._target)
                self._writers.add(back)
                try:
                    await asyncio.gather(self._pump(reader, back), self._pump(onward, writer))
                finally:
                    self._writers.discard(back)
                    back.transport.abort()
        except asyncio.CancelledError:
            return  # asyncio's own streams would report it
        finally:
            self._writers.discard(writer)
            self._tasks.discard(task)
            writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_PIECE):
            await self._open.wait()
            writer.write(data)
            await writer.drain()
        with suppress(OSError):
            writer.write_eof()
