"""Who may capture when: one at a time per device, a few in all, and a queue with an end."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from weakref import WeakValueDictionary

from asynccam.errors import BusyError, StateError, UsageError
from asynccam.runtime.disk import on_disk


class Ticket:
    """A place among the captures that run or wait; a context manager that gives it back."""

    def __init__(self, queue: "CaptureQueue") -> None:
        self._queue: CaptureQueue | None = queue

    def leave(self) -> None:
        """Give the place back; harmless when called twice."""
        if self._queue is not None:
            self._queue.inside -= 1
            self._queue = None

    def __enter__(self) -> "Ticket":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()


class CaptureQueue:
    """Lets captures through in the order they came.

    Whoever captures holds first the device and then a slot, so that those who wait for a busy device
    keep no slot from the others.

    Args:
        at_once: Captures at the same time.
        max_waiting: Captures that may wait.

    Attributes:
        at_once: Captures at the same time.
        inside: Captures that run or wait.
        running: Captures that run.
    """

    def __init__(self, at_once: int, max_waiting: int) -> None:
        self.inside = 0
        self.running = 0
        self.limit(at_once, max_waiting)
        self._devices: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._several = asyncio.Lock()

    def limit(self, at_once: int, max_waiting: int) -> None:
        """Set other limits, while nobody is inside.

        Raises:
            UsageError: They make no sense.
            StateError: Somebody is inside.
        """
        if at_once < 1 or max_waiting < 0:
            raise UsageError(f"at least 1 capture runs and 0 wait, not {at_once} and {max_waiting}")
        if self.inside:
            raise StateError(f"{self.inside} captures run or wait")
        self.at_once = at_once
        self._capacity = at_once + max_waiting
        self._slots = asyncio.Semaphore(at_once)

    @property
    def waiting(self) -> int:
        """Captures that wait."""
        return self.inside - self.running

    def admit(self, count: int = 1) -> tuple[Ticket, ...]:
        """Places for captures; as many as are asked for when nobody is there.

        Raises:
            BusyError: There is no room for them.
        """
        if self.inside and self.inside + count > self._capacity:
            raise BusyError(f"{self.waiting} captures wait already; try again later")
        self.inside += count
        return tuple(Ticket(self) for _ in range(count))

    @asynccontextmanager
    async def device(self, key: str) -> AsyncIterator[None]:
        """Wait for a device, and keep it."""
        lock = self._devices.get(key)
        if lock is None:
            lock = self._devices[key] = asyncio.Lock()
        async with lock:
            yield

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for one of the slots, and keep it."""
        async with self._slots:
            self.running += 1
            try:
                yield
            finally:
                self.running -= 1

    @asynccontextmanager
    async def several(self, keys: Iterable[str]) -> AsyncIterator[None]:
        """Wait for several devices, not more than there are slots, with a slot for each, and keep them."""
        async with self._several, AsyncExitStack() as held:
            # In one order, and one such wait at a time: nobody waits for who waits for him.
            for key in sorted(keys):
                await held.enter_async_context(self.device(key))
            for _ in keys:
                await held.enter_async_context(self.slot())
            yield


async def device_key(path: str) -> str:
    """What a device is known by: links to the same one give the same key."""
    return await on_disk(os.path.realpath, path)
