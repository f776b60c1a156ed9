"""A cable that is cut without a word, where there are no network namespaces: a proxy that swallows bytes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from tests.support.devices import free_port

_PIECE: Final = 65536


class Swallowing:
    """Forwards TCP to a port of this computer; while it is cut, connections stay open and no byte passes.

    A connection that lost bytes stays mute for good, as one whose peer repeats them after ever longer waits
    does for a while.

    Args:
        target: The port it forwards to.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._passes = asyncio.Event()
        self._passes.set()
        self._conversations: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = free_port()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._converse, "127.0.0.1", self.port)

    async def refuse(self) -> None:
        """Stop listening and drop every connection, as the computer of a process that was killed does."""
        if self._server is not None:
            self._server.close()
        for one in tuple(self._conversations):
            one.cancel()
        await asyncio.gather(*self._conversations, return_exceptions=True)

    def cut(self) -> None:
        """From now on swallow everything."""
        self._passes.clear()

    def mend(self) -> None:
        """Let new connections through, and those that have lost nothing."""
        self._passes.set()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._conversations.add(task)
        try:
            await self._passes.wait()  # accepted by the system; nobody answers
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._pump(reader, back))
                    both.create_task(self._pump(there, writer))
            finally:
                back.close()
        except (OSError, ExceptionGroup):
            pass  # one end has gone; so does the other
        finally:
            writer.close()
            self._conversations.discard(task)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        lost = False
        while piece := await source.read(_PIECE):
            lost = lost or not self._passes.is_set()
            if not lost:
                sink.write(piece)
                await sink.drain()
        await self._passes.wait()
        with suppress(OSError):
            sink.write_eof()


@asynccontextmanager
async def swallowing(target: int) -> AsyncIterator[Swallowing]:
    """A proxy while it listens."""
    one = Swallowing(target)
    await one.start()
    try:
        yield one
    finally:
        await one.refuse()
