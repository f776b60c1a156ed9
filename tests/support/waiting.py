"""Waiting for a state instead of sleeping and hoping."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


async def eventually(predicate: Callable[[], T], timeout: float = 20.0, *, what: str = "") -> T:
    """The first true value of ``predicate()``, asked again and again while the loop goes on.

    Raises:
        AssertionError: It stayed false for ``timeout`` seconds; ``what`` names what was awaited.
    """
    until = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > until:
            raise AssertionError(f"did not come true within {timeout:g} s: {what or predicate}")
        await asyncio.sleep(0.002)


async def passes(count: int = 10) -> None:
    """Let everything that is ready run, for ``count`` passes of the loop."""
    for _ in range(count):
        await asyncio.sleep(0)


async def eventually_awaited(
    ask: Callable[[], Awaitable[T]], timeout: float = 20.0, *, pause: float = 0.02
) -> T:
    """Return the first true answer of ``ask()``, awaited again ``pause`` seconds after each that is not.

    Raises:
        TimeoutError: There was none within ``timeout`` seconds.
    """
    async with asyncio.timeout(timeout):
        while not (answer := await ask()):  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(pause)
        return answer


async def listens(port: int) -> bool:
    """Return whether something accepts connections at a port of this computer."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


@contextmanager
def outlasting(seconds: float) -> Iterator[None]:
    """Require that a timer of ``seconds`` that is set now is due before the block ends.

    This is the order of two timers of one loop, which is the same on a slow computer: no clock is read.
    """
    due = asyncio.Event()
    timer = asyncio.get_running_loop().call_later(seconds, due.set)
    try:
        yield
        assert due.is_set(), f"over before a timer of {seconds:g} s that was set at its begin"
    finally:
        timer.cancel()
