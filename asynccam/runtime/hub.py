"""EventHub: typed events from one emitter to any number of listeners, none of whom can hold up another.

`EventHub.emit` only appends to queues. Each subscription drains its own, in order, on later turns
of the loop; a queue that is full loses its oldest event and counts it.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from inspect import isawaitable
from types import TracebackType
from typing import Any, Final, Generic, TypeVar, overload

from asynccam.errors import StateError, UsageError
from asynccam.model.events import Event
from asynccam.runtime.tasks import TaskScope

E = TypeVar("E", bound=Event)
L = TypeVar("L", "Subscription", "EventStream[Any]")
Callback = Callable[[E], Awaitable[object] | object]

_LOG = logging.getLogger(__name__)
_BATCH: Final = 64
"""Events a callback gets in one turn of the loop before others have theirs."""


class Subscription:
    """One callback's place at a hub; cancel it, or use it as a context manager.

    Attributes:
        dropped: Events lost because the callback was too slow.
        failures: Calls that raised.
        delivered: Calls made.
    """

    def __init__(
        self, hub: "EventHub", callback: Callback[Any], types: tuple[type[Event], ...], maxsize: int
    ) -> None:
        _check_maxsize(maxsize)
        self._hub = hub
        self._callback = callback
        self._types = types
        self._queue: deque[Event] = deque()
        self._maxsize = maxsize
        self._draining = False
        self.dropped = 0
        self.failures = 0
        self.delivered = 0
        self.active = True

    def cancel(self) -> None:
        """Stop listening; what is still queued is let go. Harmless when called twice."""
        if self.active:
            self.active = False
            self._queue.clear()
            self._hub._remove(self)

    def __enter__(self) -> "Subscription":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def _wants(self, kind: type[Event]) -> bool:
        return not self._types or issubclass(kind, self._types)

    def _offer(self, event: Event) -> None:
        if len(self._queue) >= self._maxsize:
            self._queue.popleft()
            self.dropped += 1
            self._hub.dropped += 1
        self._queue.append(event)
        if not self._draining:
            self._draining = True
            asyncio.get_running_loop().call_soon(self._drain)

    def _drain(self) -> None:
        """Call the callback for queued events until one call has to be awaited."""
        for _ in range(_BATCH):
            if not self._queue:
                self._draining = False
                return
            self.delivered += 1
            try:
                result = self._callback(self._queue.popleft())
            except Exception as error:  # noqa: BLE001 - a listener's fault must not reach the emitter
                self._failed(error)
                continue
            if isawaitable(result):
                self._hub._await(self, result)
                return
        asyncio.get_running_loop().call_soon(self._drain)

    async def _finish(self, awaitable: Awaitable[object]) -> None:
        try:
            await awaitable
        except Exception as error:  # noqa: BLE001 - as above
            self._failed(error)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            self._failed(error)  # the callback awaited something that somebody else cancelled
        self._drain()

    def _failed(self, error: BaseException) -> None:
        self.failures += 1
        self._hub.failures += 1
        if self.failures == 1:
            _LOG.error(
                "event callback %r failed; further failures are only counted", self._callback, exc_info=error
            )


class EventStream(AsyncIterator[E], Generic[E]):
    """Events as an async iterator; ends when it is closed or its hub is.

    Listening begins when the stream is made, not at the first ``async for``.
    """

    def __init__(self, hub: "EventHub", types: tuple[type[E], ...], maxsize: int) -> None:
        _check_maxsize(maxsize)
        self._events: deque[E] = deque()
        self._maxsize = maxsize
        self._waiter: asyncio.Future[None] | None = None
        self._hub = hub
        self._types = types
        self.dropped = 0
        self.active = True

    def cancel(self) -> None:
        """Stop listening; what is queued can still be read. Harmless when called twice."""
        if self.active:
            self.active = False
            self._hub._remove(self)
            self._wake()

    def __enter__(self) -> "EventStream[E]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def __aiter__(self) -> "EventStream[E]":
        return self

    async def __anext__(self) -> E:
        while not self._events:
            if not self.active:
                raise StopAsyncIteration
            if self._waiter is not None:
                raise StateError("an event stream has one reader at a time")
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._events.popleft()

    def _wants(self, kind: type[Event]) -> bool:
        return not self._types or issubclass(kind, self._types)

    def _offer(self, event: E) -> None:
        if len(self._events) >= self._maxsize:
            self._events.popleft()
            self.dropped += 1
            self._hub.dropped += 1
        self._events.append(event)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class EventHub:
    """Where events are emitted and listened to.

    Attributes:
        dropped: Events lost to slow listeners, all together.
        failures: Callback calls that raised, all together.
        emitted: Events emitted.
    """

    def __init__(self, name: str = "events") -> None:
        self._scope = TaskScope(name)
        self._listeners: list[Subscription | EventStream[Any]] = []
        self._by_type: dict[type[Event], tuple[Callable[[Any], None], ...]] = {}
        self._closed = False
        self.dropped = 0
        self.failures = 0
        self.emitted = 0

    def emit(self, event: Event) -> None:
        """Queue an event for every listener of its type; never waits, never raises for a listener's fault."""
        self.emitted += 1
        kind = type(event)
        offers = self._by_type.get(kind)
        if offers is None:
            offers = tuple(one._offer for one in self._listeners if one._wants(kind))
            self._by_type[kind] = offers
        for offer in offers:
            offer(event)

    def subscribe(self, callback: Callback[E], *types: type[E], maxsize: int = 4096) -> Subscription:
        """Call ``callback`` for every event of the given types (all, if none is given), in order.

        Args:
            callback: A function or a coroutine function; the next event waits for it to end.
            types: Event classes; their subclasses count too.
            maxsize: Queue length beyond which the oldest event is dropped and counted.

        Raises:
            StateError: The hub is closed.
            UsageError: ``maxsize`` is less than 1.
        """
        return self._add(Subscription(self, callback, types, maxsize))

    @overload
    def events(self, *, maxsize: int = 4096) -> EventStream[Event]: ...
    @overload
    def events(self, *types: type[E], maxsize: int = 4096) -> EventStream[E]: ...
    def events(self, *types: type[Any], maxsize: int = 4096) -> EventStream[Any]:
        """The events of the given types (all, if none is given) as an async iterator.

        Raises:
            StateError: The hub is closed.
            UsageError: ``maxsize`` is less than 1.
        """
        return self._add(EventStream(self, types, maxsize))

    async def aclose(self) -> None:
        """Let every listener go; streams end once they have been read, running callbacks are cancelled."""
        self._closed = True
        for listener in tuple(self._listeners):
            listener.cancel()
        await self._scope.aclose()

    def _add(self, listener: L) -> L:
        if self._closed:
            raise StateError("the event hub is closed")
        self._listeners.append(listener)
        self._by_type.clear()
        return listener

    def _remove(self, listener: Subscription | EventStream[Any]) -> None:
        self._listeners.remove(listener)
        self._by_type.clear()

    def _await(self, subscription: Subscription, awaitable: Awaitable[object]) -> None:
        self._scope.spawn(subscription._finish(awaitable), name="callback")


def _check_maxsize(maxsize: int) -> None:
    if maxsize < 1:
        raise UsageError(f"a queue holds at least one event, not {maxsize}")
