"""What happens to a client when the program around it ends without a word to it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final
from weakref import WeakSet

from asynccam.runtime.tasks import TaskScope

_LAST_WORDS: Final = 60.0
"""Seconds that the program's other tasks have to come to their end before the client is closed under them."""
_WAITING: Final[WeakSet[asyncio.Task[None]]] = WeakSet()
"""Tasks that wait for the end of the program, and not for one another."""


class ProgramEnd:
    """Has a client cleaned up when ``asyncio.run`` cancels all tasks that a program has left.

    Args:
        name: Whose.
        cleanup: Called then, once; what it raises is told by the loop.
    """

    def __init__(self, name: str, cleanup: Callable[[], Awaitable[object]]) -> None:
        self._scope = TaskScope(f"guard of {name}")
        self._cleanup = cleanup

    def expect(self) -> None:
        """Be there at the end from now on; harmless when called twice."""
        if not self._scope.tasks:
            _WAITING.add(self._scope.spawn(self._wait(), name="end of the program"))

    async def aclose(self) -> None:
        """The client was closed in order: expect nothing any more."""
        await self._scope.aclose()

    async def _wait(self) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            # Whoever stops a stream in the last moment is to hear what is in its files.
            others = {task for task in asyncio.all_tasks() if task.cancelling()} - set(_WAITING)
            if others:
                await asyncio.wait(others, timeout=_LAST_WORDS)
            await self._cleanup()
            raise
