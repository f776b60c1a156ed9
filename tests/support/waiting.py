"""Waiting for a state instead of sleeping and hoping."""

import asyncio
import time
from collections.abc import Callable
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
