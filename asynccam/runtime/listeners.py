"""Those who listen to an `EventHub`: callbacks and streams, each with a queue and counters of its own."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from inspect import isawaitable
from types import TracebackType
from typing import Any, Final, Generic, Protocol, Self, TypeVar

from asynccam.errors import StateError, UsageError
from asynccam.model.events import Event

E = TypeVar("E", bound=Event)
Callback = Callable[[E], Awaitable[object] | object]

_LOG = logging.getLogger(__name__)
_BATCH: Final = 64
"""Events a listener gets in one turn of the loop before others have theirs."""
_LOOK: Final = 16
"""Events after which a callback's time is looked at."""
_TURN: Final = 0.002
"""Seconds a callback that does not suspend has in one turn of the loop, unless one call takes longer."""
_PATIENCE: Final = 10
"""Looks, `_PAUSE` apart, for which readers wait for a listener that does not catch up."""
_PAUSE: Final = 0.05
"""Seconds between two looks; looks are counted, for a loop that stood still is not the listener's fault."""


class Hub(Protocol):
    """What a listener needs of its hub."""

    dropped: int
    failures: int

    def remove(self, listener: "EventListener") -> None:
        """Offer it nothing more."""
        ...

    def press(self, listener: "EventListener") -> None:
        """Have readers wait for it."""
        ...

    def ease(self, listener: "EventListener") -> None:
        """Have readers wait for it no longer."""
        ...

    def finish(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """See a callback's coroutine to its end in a task."""
        ...


class EventListener:
    """What callbacks and streams have in common: a filter, a bounded queue, and counters.

    Attributes:
        types: Event classes it hears, with their subclasses; all if empty.
        cameras: Ids of the cameras it hears of; of everything if None.
        active: Whether it still listens.
        delivered: Events it got.
        dropped: Events lost because it was too slow: the oldest of a full queue.
        is_slow: Whether readers have waited for it in vain, and do not wait until it has caught up.
    """

    def __init__(
        self,
        hub: Hub,
        name: str,
        types: tuple[type[Event], ...],
        cameras: frozenset[str] | None,
        maxsize: int,
    ) -> None:
        given: tuple[object, ...] = types
        for one in given:
            if not (isinstance(one, type) and issubclass(one, Event)):
                raise UsageError(f"{one!r} is not a class of events; write the class, not its name")
        if maxsize < 1:
            raise UsageError(f"a queue holds at least one event, not {maxsize}")
        self.types = types
        self.cameras = cameras
        self.active = True
        self.delivered = 0
        self.dropped = 0
        self._hub = hub
        self._name = name
        self._queue: deque[Any] = deque()
        self._maxsize = maxsize
        self._high = max(1, maxsize // 2)
        self._low = self._high // 2
        self._mark = self._high  # queue length at which `_press` is called
        self._pressing = False
        self._looks: asyncio.TimerHandle | None = None
        self.is_slow = False

    @property
    def waiting(self) -> int:
        """Events that are queued for it."""
        return len(self._queue)

    def wants(self, kind: type[Event]) -> bool:
        """Whether events of a class may be for it."""
        return not self.types or issubclass(kind, self.types)

    def subjects(self) -> frozenset[str] | None:
        """Subjects of the events that are for it: its cameras, and the services they are behind."""
        if self.cameras is None:
            return None
        services = {camera.rpartition("/")[0] for camera in self.cameras}
        return self.cameras | {service for service in services if not service.endswith("/")}

    def offer(self, event: Event) -> None:
        """Queue an event; the oldest makes room for it."""
        raise NotImplementedError

    def replay(self, events: list[Event]) -> None:
        """Queue what was before it came; whatever its length, all of it."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Stop listening; harmless when called twice."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name}, waiting: {self.waiting}, dropped: {self.dropped}>"

    def _press(self) -> None:
        """The queue is half full or more: readers wait, and what is too much goes."""
        if len(self._queue) >= self._maxsize:
            self._drop()
        if not (self._pressing or self.is_slow):
            self._pressing = True
            self._hub.press(self)
            self._look(_PATIENCE)

    def _look(self, left: int) -> None:
        if left:
            self._looks = asyncio.get_running_loop().call_later(_PAUSE, self._look, left - 1)
            return
        _LOG.debug("%s does not keep up: nothing that is read waits for it", self._name)
        self._ease()
        self.is_slow, self._mark = True, self._maxsize

    def _ease(self) -> None:
        """The queue has been worked off, or nobody is to wait for that."""
        self.is_slow, self._mark = False, self._high
        if self._looks is not None:
            self._looks.cancel()
            self._looks = None
        if self._pressing:
            self._pressing = False
            self._hub.ease(self)

    def _note_room(self) -> None:
        if (self._pressing or self.is_slow) and len(self._queue) <= self._low:
            self._ease()

    def _drop(self) -> None:
        self._queue.popleft()
        self._hub.dropped += 1
        self.dropped += 1
        if self.dropped == 1:
            _LOG.warning("%s does not keep up: events are dropped, and from now on only counted", self._name)


class Subscription(EventListener):
    """One callback's place at a hub; cancel it, or use it as a context manager.

    Attributes:
        failures: Calls that raised.
    """

    def __init__(
        self,
        hub: Hub,
        callback: Callback[Any],
        types: tuple[type[Event], ...],
        cameras: frozenset[str] | None,
        maxsize: int,
    ) -> None:
        super().__init__(hub, f"event callback {callback!r}", types, cameras, maxsize)
        self.failures = 0
        self._callback = callback
        self._draining = False
        self._rested = asyncio.Event()

    async def drained(self) -> None:
        """Wait until the callback has taken all that is queued, or the subscription is cancelled."""
        if self._draining and self.active:
            self._rested.clear()
            await self._rested.wait()

    def cancel(self) -> None:
        """Stop listening; what is still queued is let go. Harmless when called twice."""
        if self.active:
            self.active = False
            self._queue.clear()
            self._ease()
            self._rested.set()
            self._hub.remove(self)

    def offer(self, event: Event) -> None:
        """Queue an event, and see to it that the queue is drained."""
        if len(self._queue) >= self._mark:
            self._press()
        self._queue.append(event)
        if not self._draining:
            self._draining = True
            asyncio.get_running_loop().call_soon(self._drain)

    def replay(self, events: list[Event]) -> None:
        """Queue what was before it came."""
        if events:
            self._queue.extend(events)
            self._draining = True
            asyncio.get_running_loop().call_soon(self._drain)

    def _drain(self) -> None:
        """Call the callback for queued events, for a bounded time, until one call has to be awaited."""
        queue, callback = self._queue, self._callback
        loop = asyncio.get_running_loop()
        until = loop.time() + _TURN
        for _ in range(_BATCH // _LOOK):
            for _ in range(_LOOK):
                if not queue:
                    break
                self.delivered += 1
                try:
                    result = callback(queue.popleft())
                except Exception as error:  # noqa: BLE001 - a listener's fault must not reach the emitter
                    self._failed(error)
                    continue
                if result is not None and isawaitable(result):
                    self._hub.finish(self._finish(result))
                    self._note_room()
                    return
            if not queue or loop.time() >= until:
                break
        self._note_room()
        if queue:
            loop.call_soon(self._drain)
        else:
            self._draining = False
            self._rested.set()

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
            _LOG.error("%s failed; further failures are only counted", self._name, exc_info=error)


class EventStream(EventListener, AsyncIterator[E], Generic[E]):
    """Events as an async iterator; ends when it is closed or its hub is.

    Listening begins when the stream is made, not at the first ``async for``. It has one reader at a
    time, who now and then gives way to the rest of the program even while more events are queued.

    Attributes:
        replaying: Whether the event that was read last is one of those that were replayed.
    """

    def __init__(
        self, hub: Hub, types: tuple[type[E], ...], cameras: frozenset[str] | None, maxsize: int
    ) -> None:
        super().__init__(hub, "event stream", types, cameras, maxsize)
        self.replaying = False
        self._replays = 0
        self._waiter: asyncio.Future[None] | None = None

    def cancel(self) -> None:
        """Stop listening; what is queued can still be read. Harmless when called twice."""
        if self.active:
            self.active = False
            self._ease()
            self._hub.remove(self)
            self._wake()

    def offer(self, event: Event) -> None:
        """Queue an event, and wake who waits for it."""
        if len(self._queue) >= self._mark:
            self._press()
        self._queue.append(event)
        if self._waiter is not None:
            self._wake()

    def replay(self, events: list[Event]) -> None:
        """Queue what was before it came."""
        self._queue.extend(events)
        self._replays = len(events)

    def __aiter__(self) -> "EventStream[E]":
        return self

    async def __anext__(self) -> E:
        if self._queue and self.delivered % _BATCH == _BATCH - 1:
            await asyncio.sleep(0)
        while not self._queue:
            if not self.active:
                raise StopAsyncIteration
            if self._waiter is not None:
                raise StateError("an event stream has one reader at a time")
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self.delivered += 1
        event: E = self._queue.popleft()
        if self._pressing or self.is_slow:
            self._note_room()
        self.replaying = self._replays > 0
        self._replays -= self.replaying
        return event

    def _drop(self) -> None:
        # The oldest goes first, and what was replayed is older than anything else.
        self._replays = max(0, self._replays - 1)
        super()._drop()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
