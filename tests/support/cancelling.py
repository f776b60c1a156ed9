"""Cancelling a coroutine at each of its awaits in turn."""

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any


class _CancelAt:
    """Awaits a coroutine and cancels the task the moment it suspends for the ``count``-th time."""

    def __init__(self, coroutine: Coroutine[Any, Any, None], count: int) -> None:
        self._coroutine = coroutine
        self._left = count

    def __await__(self) -> Generator[Any, Any, None]:
        step, argument = self._coroutine.send, None
        while True:
            try:
                awaited = step(argument)
            except StopIteration:
                return
            self._left -= 1
            if self._left == 0:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            try:
                argument = yield awaited
                step = self._coroutine.send
            except BaseException as error:  # noqa: BLE001 - thrown on into the coroutine
                step, argument = self._coroutine.throw, error


async def cancelled_at(coroutine: Coroutine[Any, Any, None], count: int) -> bool:
    """Run a coroutine that is cancelled at its ``count``-th await; False if it ended before that one.

    Raises:
        AssertionError: It was cancelled and ended as if it had not been.
    """

    async def driven() -> None:
        await _CancelAt(coroutine, count)

    task = asyncio.create_task(driven())
    await asyncio.wait({task})
    if task.cancelled():
        return True
    task.result()
    assert task.cancelling() == 0, f"swallowed the cancellation at await {count}"
    return False
