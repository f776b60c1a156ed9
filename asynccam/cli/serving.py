"""What all servers of ``asynccam serve`` share."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import typer

from asynccam.errors import UsageError
from asynccam.runtime.tasks import TaskScope

WhileStdinOption = Annotated[
    bool, typer.Option("--while-stdin-open", help="Also end when standard input is closed.")
]


@asynccontextmanager
async def while_open(*, stdin: bool) -> AsyncIterator[None]:
    """The block, ended when standard input is closed, if that is to be watched."""
    if not stdin:
        yield
        return
    owner = asyncio.current_task()
    assert owner is not None
    closed = False
    cancelling = owner.cancelling()

    async def watch(reader: asyncio.StreamReader) -> None:
        nonlocal closed
        while await reader.read(1024):
            pass
        closed = True
        owner.cancel()

    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    try:
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    except (ValueError, PermissionError):
        raise UsageError("--while-stdin-open needs a pipe or a terminal as standard input") from None
    async with TaskScope("stdin") as scope:
        scope.spawn(watch(reader), name="watch")
        try:
            yield
        except asyncio.CancelledError:
            if not closed or owner.uncancel() > cancelling:
                raise
        finally:
            transport.close()
