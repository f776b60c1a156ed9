"""Queries to cameras and services that time out soon, and whose late answers still count."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Final, TypeVar

from asynccam.errors import TimeoutError
from asynccam.runtime.tasks import TaskScope
from asynccam.runtime.timing import deadline

T = TypeVar("T")

_TIMEOUT: Final = 1.5
"""Seconds within which an available camera usually answers."""
_MAX_TIMEOUT: Final = 4.0
"""Seconds after which a query is sent anew: one that was lost with its connection is never answered."""
_FRESH: Final = 1.0
"""Seconds for which a late answer counts as one to the next query."""


class PendingQueries:
    """Queries by key, with those that are not answered yet.

    A query without a prompt answer raises `TimeoutError`, and stays open a few seconds longer. When its
    answer comes, ``on_late`` is called, and the answer is what the next `ask` returns if that follows at
    once. The next query waits long enough for such an answer.

    Args:
        scope: Owns the tasks.
        on_late: Called with the key of a query that was answered late.
        on_unclaimed: Called with an answer that no `ask` returns any more; it may hold a connection.
    """

    def __init__(
        self,
        scope: TaskScope,
        on_late: Callable[[Hashable], None],
        on_unclaimed: Callable[[object], None] = lambda answer: None,
    ) -> None:
        self._scope = scope
        self._on_late = on_late
        self._on_unclaimed = on_unclaimed
        self._open: dict[Hashable, asyncio.Task[Any]] = {}
        self._timeouts: dict[Hashable, float] = {}
        self._timed_out: set[Hashable] = set()
        self._late_at: dict[Hashable, float] = {}

    async def ask(self, key: Hashable, query: Callable[[], Awaitable[T]], name: str) -> T:
        """Return the answer to a query, sent now or before; ``name`` is for the error.

        Raises:
            TimeoutError: There was no answer in time.
        """
        timeout = self._timeouts.get(key, _TIMEOUT)
        while True:
            task = self._open.get(key)
            if task is not None and task.done() and not self._is_fresh(key):
                self._discard(task)
                task = None
            if task is None:
                task = self._scope.spawn(self._run(key, query, name), name=f"ask {name}")
                self._open[key] = task
            self._timed_out.discard(key)
            self._late_at.pop(key, None)
            await asyncio.wait({task}, timeout=timeout)
            if not task.cancelled():
                break  # it was not restarted meanwhile
        if not task.done():
            self._timed_out.add(key)
            raise TimeoutError(f"{name} has not answered within {timeout:.1f} s")
        if self._open.get(key) is task:
            del self._open[key]
        answer: T | Exception = task.result()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def extra_timeout(self, key: Hashable) -> float:
        """Return by how many seconds the timeout is longer than usual, as the last answer was slow."""
        return self._timeouts.get(key, _TIMEOUT) - _TIMEOUT

    def restart(self, key: Hashable) -> None:
        """Send an open query anew: it went to an address where nothing answers any longer."""
        task = self._open.pop(key, None)
        if task is not None:
            self._discard(task)

    def drop(self, key: Hashable) -> None:
        """Forget a query, and cancel it if it is open."""
        self.restart(key)
        self._timeouts.pop(key, None)
        self._late_at.pop(key, None)
        self._timed_out.discard(key)

    def close(self) -> None:
        """Drop every query."""
        for key in list(self._open):
            self.drop(key)

    def _discard(self, task: "asyncio.Task[Any]") -> None:
        if not task.cancel() and not task.cancelled():
            self._on_unclaimed(task.result())

    def _is_fresh(self, key: Hashable) -> bool:
        late_at = self._late_at.get(key)
        return late_at is not None and asyncio.get_running_loop().time() < late_at + _FRESH

    async def _run(self, key: Hashable, query: Callable[[], Awaitable[T]], name: str) -> T | Exception:
        """Return the answer, or the error: there may be no `ask` left to raise it."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with deadline(_MAX_TIMEOUT, f"answer from {name}"):
                answer = await query()
        except Exception as error:  # noqa: BLE001 - whatever it is, `ask` raises it
            return error
        self._timeouts[key] = min(max(_TIMEOUT, 2 * (loop.time() - began)), _MAX_TIMEOUT)
        if key in self._timed_out:
            self._timed_out.discard(key)
            self._late_at[key] = loop.time()
            # After this task has ended, so that its answer is there.
            loop.call_soon(self._on_late, key)
        return answer
