"""Events: typed values from one emitter to any number of listeners, none of which can delay another.

`EventHub.emit` only appends to queues. Each listener drains its own, in order, on later turns of the
loop; a queue that is full loses its oldest event and counts the loss. A reader of a socket asks
`EventHub.room` before it emits, so that only a listener that is really slow loses any. The latest event of
each kind of state is kept for late subscribers. See docs/events.md.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any, Final, Generic, Self, TypeVar, cast, overload

from asynccam.errors import StateError, UsageError
from asynccam.model.camera import Camera
from asynccam.model.events import Event
from asynccam.runtime.tasks import TaskScope
from asynccam.runtime.timing import deadline

E = TypeVar("E", bound=Event)
L = TypeVar("L", bound="EventListener")
Callback = Callable[[E], Awaitable[object] | object]
Cameras = str | Camera | Iterable[str | Camera]
"""Cameras whose events are wanted: one or several, as objects or by their ids."""

_LOG = logging.getLogger(__name__)
_MAX_STATES: Final = 20_000
"""States that are kept at most; beyond, the one that has not changed for longest is forgotten."""
_BATCH: Final = 64
"""Events an iterator gets in one turn of the loop before others have theirs."""
_MAX_CALLS: Final = 512
"""Calls of a callback in one turn of the loop before others have theirs."""
_MAX_BURST: Final = 48
"""Events after which readers pause until callbacks have had their turn.

While more are queued, with the objects that came with them, Python's collector of garbage runs (at 700 new
objects) and finds them alive; a few times more, and it goes through all objects of the program.
"""
_CALLS_PER_TIME_CHECK: Final = 16
_MAX_TURN: Final = 0.002
"""Seconds a callback that does not suspend has in one turn of the loop, unless one call takes longer."""
_MAX_CHECKS: Final = 10
"""Checks, `_CHECK_INTERVAL` apart, for which readers wait for a listener that does not catch up."""
_CHECK_INTERVAL: Final = 0.05
"""Seconds; checks are counted because a loop that stood still is not the listener's fault."""


class EventListener:
    """A filter, a bounded queue and counters: the common part of callbacks and streams."""

    def __init__(
        self,
        hub: "EventHub",
        name: str,
        types: tuple[type[Event], ...],
        cameras: frozenset[str] | None,
        maxsize: int,
    ) -> None:
        given: tuple[object, ...] = types
        for kind in given:
            if not (isinstance(kind, type) and issubclass(kind, Event)):
                raise UsageError(f"{kind!r} is not a class of events; write the class, not its name")
        if maxsize < 1:
            raise UsageError(f"a queue holds at least one event, not {maxsize}")
        self.types = types  # event classes, which include their subclasses; all if empty
        self.cameras = cameras  # ids of cameras; everything if None
        self.active = True
        self.delivered = 0  # events taken from the queue
        self.dropped = 0  # events lost because it was too slow: the oldest of a full queue
        self._hub = hub
        self._name = name
        self._queue: deque[Any] = deque()
        self._maxsize = maxsize
        self._high = max(1, maxsize // 2)
        self._low = self._high // 2
        self._threshold = self._high  # queue length at which `_on_half_full` is called
        self._asleep = False  # whether an event that is queued has to wake who takes it
        self._holding = False
        self._timer: asyncio.TimerHandle | None = None
        self.is_slow = False  # whether readers stopped waiting for it, until it has caught up

    @property
    def waiting(self) -> int:
        """Number of queued events."""
        return len(self._queue)

    def wants(self, kind: type[Event]) -> bool:
        """Return whether events of a class may be for it."""
        return not self.types or issubclass(kind, self.types)

    def subjects(self) -> frozenset[str] | None:
        """Return the subjects of its events: its cameras and their services; None for all."""
        if self.cameras is None:
            return None
        services = {camera.rpartition("/")[0] for camera in self.cameras}
        return self.cameras | {service for service in services if not service.endswith("/")}

    def offer(self, event: Event) -> None:
        """Queue an event; drop the oldest if the queue is full."""
        if len(self._queue) >= self._threshold:
            self._on_half_full()
        self._queue.append(event)
        if self._asleep:
            self._wake()

    def replay(self, events: list[Event]) -> None:
        """Queue earlier events, however many."""
        self._queue.extend(events)
        if events and self._asleep:
            self._wake()

    def cancel(self) -> None:
        """Stop listening; harmless when called twice.

        Queued events of a callback are discarded; those of a stream can still be read.
        """
        if self.active:
            self.active = False
            self._release()
            self._hub.remove(self)
            self._cancelled()

    def _cancelled(self) -> None:
        raise NotImplementedError

    def _wake(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name}, waiting: {self.waiting}, dropped: {self.dropped}>"

    def _on_half_full(self) -> None:
        """Have readers wait, and drop the oldest event if the queue is full."""
        if len(self._queue) >= self._maxsize:
            self._drop()
        if not (self._holding or self.is_slow):
            self._holding = True
            self._hub.hold_readers(self)
            self._check_progress(_MAX_CHECKS)

    def _check_progress(self, left: int) -> None:
        if left:
            self._timer = asyncio.get_running_loop().call_later(
                _CHECK_INTERVAL, self._check_progress, left - 1
            )
            return
        _LOG.debug("%s does not keep up: nothing that is read waits for it", self._name)
        self._release()
        self.is_slow, self._threshold = True, self._maxsize

    def _release(self) -> None:
        """Let readers go on: the queue was worked off, or they do not wait for it any longer."""
        self.is_slow, self._threshold = False, self._high
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._holding:
            self._holding = False
            self._hub.release_readers(self)

    def _check_room(self) -> None:
        if (self._holding or self.is_slow) and len(self._queue) <= self._low:
            self._release()

    def _drop(self) -> None:
        self._queue.popleft()
        self._hub.dropped += 1
        self.dropped += 1
        if self.dropped == 1:
            _LOG.warning("%s does not keep up: events are dropped, and from now on only counted", self._name)


class Subscription(EventListener):
    """A callback subscribed to a hub; cancel it, or use it as a context manager.

    Attributes:
        failures: Calls that raised.
    """

    def __init__(
        self,
        hub: "EventHub",
        callback: Callback[Any],
        types: tuple[type[Event], ...],
        cameras: frozenset[str] | None,
        maxsize: int,
    ) -> None:
        super().__init__(hub, f"event callback {callback!r}", types, cameras, maxsize)
        self.failures = 0
        self._callback = callback
        self._asleep = True
        self._idle = asyncio.Event()

    async def drained(self) -> None:
        """Wait until the callback has taken all that is queued, or the subscription is cancelled."""
        if not self._asleep and self.active:
            self._idle.clear()
            await self._idle.wait()

    def _cancelled(self) -> None:
        self._queue.clear()
        self._idle.set()

    def _wake(self) -> None:
        self._asleep = False
        asyncio.get_running_loop().call_soon(self._drain)

    def _drain(self) -> None:
        """Call the callback for queued events, for a bounded time, until one call has to be awaited."""
        queue, callback = self._queue, self._callback
        loop = asyncio.get_running_loop()
        until = loop.time() + _MAX_TURN
        for _ in range(_MAX_CALLS // _CALLS_PER_TIME_CHECK):
            for _ in range(_CALLS_PER_TIME_CHECK):
                if not queue:
                    break
                self.delivered += 1
                try:
                    result = callback(queue.popleft())
                except Exception as error:  # noqa: BLE001 - a listener's fault must not reach the emitter
                    self._failed(error)
                    continue
                if result is not None and isawaitable(result):
                    self._hub.spawn_callback(self._drain_awaiting(result))
                    self._check_room()
                    return
            if not queue or loop.time() >= until:
                break
        self._check_room()
        if queue:
            loop.call_soon(self._drain)
        else:
            self._asleep = True
            self._idle.set()

    async def _drain_awaiting(self, result: object) -> None:
        """Await a callback's result, and call it for all that is queued, in one task: each task is costly."""
        queue, loop = self._queue, asyncio.get_running_loop()
        calls, until = 1, loop.time() + _MAX_TURN
        while True:
            try:
                if result is not None and isawaitable(result):
                    await result
                self._check_room()
                if calls >= _MAX_CALLS or loop.time() >= until:  # the callback may never give way by itself
                    await asyncio.sleep(0)
                    calls, until = 0, loop.time() + _MAX_TURN
                result = None
                if not queue:
                    break
                calls += 1
                self.delivered += 1
                result = self._callback(queue.popleft())
            except Exception as error:  # noqa: BLE001 - as above
                self._failed(error)
                result = None
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                self._failed(error)  # the callback awaited something that was cancelled elsewhere
                result = None
        self._asleep = True
        self._idle.set()

    def _failed(self, error: BaseException) -> None:
        self.failures += 1
        self._hub.failures += 1
        if self.failures == 1:
            _LOG.error("%s failed; further failures are only counted", self._name, exc_info=error)


class EventStream(EventListener, AsyncIterator[E], Generic[E]):
    """Events as an async iterator; ends when it is closed or its hub is.

    Listening begins when the stream is made, not at the first ``async for``. It has one reader at a
    time, which gives way to the rest of the program now and then, even while more events are queued.

    Attributes:
        replaying: Whether the event that was read last is one of those that were replayed.
    """

    def __init__(
        self, hub: "EventHub", types: tuple[type[E], ...], cameras: frozenset[str] | None, maxsize: int
    ) -> None:
        super().__init__(hub, "event stream", types, cameras, maxsize)
        self.replaying = False
        self._replays = 0
        self._waiter: asyncio.Future[None] | None = None

    def _cancelled(self) -> None:
        self._wake()

    def replay(self, events: list[Event]) -> None:
        """Queue earlier events, however many."""
        super().replay(events)
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
            self._asleep = True
            try:
                await self._waiter
            finally:
                self._waiter, self._asleep = None, False
        self.delivered += 1
        event: E = self._queue.popleft()
        if self._holding or self.is_slow:
            self._check_room()
        self.replaying = self._replays > 0
        self._replays -= self.replaying
        return event

    def _drop(self) -> None:
        # The oldest event is dropped, and replayed ones are the oldest.
        self._replays = max(0, self._replays - 1)
        super()._drop()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


Offer = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class _Route:
    """Receivers of events of one class."""

    slot: str
    everyone: tuple[Offer, ...]
    by_subject: dict[str, tuple[Offer, ...]]


class EventHub:
    """Emits events to listeners.

    Args:
        name: For its tasks.
        on_state: Called with every event that is a state, before `emit` returns: for the hub's owner,
            who must not block in it, and may emit.

    Attributes:
        dropped: Events lost to slow listeners, in total; each listener counts its own as well.
        failures: Callback calls that raised, in total.
        emitted: Events emitted.
    """

    def __init__(self, name: str = "events", *, on_state: Callable[[Event], None] | None = None) -> None:
        self._scope = TaskScope(name)
        self._listeners: list[EventListener] = []
        self._routes: dict[type[Event], _Route] = {}
        self._latest: dict[tuple[str, str], Event] = {}  # in the order in which they were emitted
        self._closed = False
        self._holders: set[EventListener] = set()
        self._relieved: asyncio.Future[None] | None = None
        self._paused_at = 0  # events emitted before the last pause of readers
        self._on_state = on_state
        self.dropped = 0
        self.failures = 0
        self.emitted = 0

    @property
    def listeners(self) -> tuple[EventListener, ...]:
        """Current listeners, each with its counters."""
        return tuple(self._listeners)

    def emit(self, event: Event) -> None:
        """Queue an event for its listeners; never waits, and never raises for a listener's fault."""
        self.emitted += 1
        kind = type(event)
        route = self._routes.get(kind)
        if route is None:
            route = self._routes[kind] = self._route(kind)
        if route.slot:
            self._keep((route.slot, event.subject), event)
        for offer in route.everyone:
            offer(event)
        if route.by_subject:
            for offer in route.by_subject.get(event.subject, ()):
                offer(event)
        if route.slot and self._on_state is not None:
            self._on_state(event)

    def room(self) -> "asyncio.Future[None] | None":
        """Return None if every listener that keeps up has room, and else a future to wait for.

        For a reader of a socket, which reads on once the future is done. After a burst of events, it is done
        as soon as callbacks have had a turn. A listener has room while less
        than half of its queue is taken. It keeps up if it gets there again within half a second in which
        the loop runs; a slower one is not waited for again before it has caught up. The future must not be
        cancelled: others may wait for it.
        """
        if self._relieved is None:
            if self._holders:
                self._relieved = asyncio.get_running_loop().create_future()
            elif self._listeners and self.emitted - self._paused_at >= _MAX_BURST:
                self._paused_at = self.emitted
                loop = asyncio.get_running_loop()
                self._relieved = loop.create_future()
                loop.call_soon(self._let_readers_go_on)  # after the callbacks that `emit` has scheduled
        return self._relieved

    def subscribe(
        self,
        callback: Callback[E],
        *types: type[E],
        camera: Cameras | None = None,
        replay: bool = False,
        maxsize: int = 4096,
    ) -> Subscription:
        """Call ``callback`` for every event of the given types (all, if none is given), in order.

        Args:
            callback: A function or a coroutine function; the next event waits for it to end.
            types: Event classes; their subclasses count too.
            camera: Only events about this camera, or these, and about the services they are behind.
            replay: Whether to call back first for the latest of everything that is a state, in the
                order in which it became so.
            maxsize: Queue length beyond which the oldest event is dropped and counted.

        Raises:
            StateError: The hub is closed.
            UsageError: ``maxsize`` is less than 1, or a type is not a class of events.
        """
        return self._add(Subscription(self, callback, types, _ids(camera), maxsize), replay)

    @overload
    def stream(
        self, *, camera: Cameras | None = None, replay: bool = False, maxsize: int = 4096
    ) -> EventStream[Event]: ...
    @overload
    def stream(
        self, *types: type[E], camera: Cameras | None = None, replay: bool = False, maxsize: int = 4096
    ) -> EventStream[E]: ...
    def stream(
        self, *types: type[Any], camera: Cameras | None = None, replay: bool = False, maxsize: int = 4096
    ) -> EventStream[Any]:
        """Return the events of the given types (all, if none is given) as an async iterator.

        Args: as for `subscribe`.

        Raises:
            StateError: The hub is closed.
            UsageError: ``maxsize`` is less than 1, or a type is not a class of events.
        """
        return self._add(EventStream(self, types, _ids(camera), maxsize), replay)

    async def wait_for(
        self,
        *types: type[E],
        camera: Cameras | None = None,
        timeout: float | None = None,
        where: Callable[[E], bool] | None = None,
        replay: bool = False,
    ) -> E:
        """Wait for the next event of the given types.

        Args:
            types: Event classes; their subclasses count too.
            camera: Only events about this camera, or these.
            timeout: Seconds to wait; None for as long as it takes.
            where: Returns whether an event is the one.
            replay: Whether a present state counts.

        Raises:
            TimeoutError: There was none in time.
            StateError: The hub is closed, or was closed while waiting.
        """
        with self.stream(*types, camera=camera, replay=replay) as stream:
            what = " or ".join(kind.__name__ for kind in types) or "event"
            async with deadline(timeout, what):
                async for event in stream:
                    if where is None or where(event):
                        return event
        raise StateError(f"the event hub was closed, and there was no {what}")

    def latest(self, kind: type[E], subject: str) -> E | None:
        """Return the latest event of a state, or None if another state has replaced it or there was none.

        Args:
            kind: A class of events with a ``slot``, such as `CameraStateChanged`.
            subject: A camera's id, or whatever such events are about.
        """
        event = self._latest.get((kind.slot, subject))
        return event if isinstance(event, kind) else None

    def forget(self, subject: str) -> None:
        """Forget the states of a camera: late subscribers do not get them."""
        for key in [key for key in self._latest if key[1] == subject]:
            del self._latest[key]

    async def drain(self) -> None:
        """Wait until every callback has taken what is queued for it, however long it takes."""
        for listener in self.listeners:
            if isinstance(listener, Subscription):
                await listener.drained()

    async def aclose(self) -> None:
        """End every subscription; streams end once they have been read, running callbacks are cancelled."""
        self._closed = True
        for listener in tuple(self._listeners):
            listener.cancel()
        await self._scope.aclose()

    # -- for listeners ----------------------------------------------------------------------------

    def remove(self, listener: EventListener) -> None:
        """Remove a listener; called by its `cancel`."""
        self._listeners.remove(listener)
        self._routes.clear()

    def hold_readers(self, listener: EventListener) -> None:
        """Have readers wait for a listener whose queue is half full."""
        self._holders.add(listener)

    def release_readers(self, listener: EventListener) -> None:
        """Have readers wait for a listener no longer."""
        self._holders.discard(listener)
        self._let_readers_go_on()

    def _let_readers_go_on(self) -> None:
        if not self._holders and self._relieved is not None:
            relieved, self._relieved = self._relieved, None
            if not relieved.done():
                relieved.set_result(None)

    def spawn_callback(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a callback's coroutine in a task of the hub."""
        self._scope.spawn(coroutine, name="callback")

    # -- inside -----------------------------------------------------------------------------------

    def _add(self, listener: L, replay: bool) -> L:
        if self._closed:
            raise StateError("the event hub is closed")
        self._listeners.append(listener)
        self._routes.clear()
        if replay:
            subjects = listener.subjects()
            listener.replay(
                [
                    event
                    for (_, subject), event in self._latest.items()
                    if listener.wants(type(event)) and (subjects is None or subject in subjects)
                ]
            )
        return listener

    def _route(self, kind: type[Event]) -> _Route:
        wanting = [listener for listener in self._listeners if listener.wants(kind)]
        by_subject: dict[str, list[Offer]] = {}
        for listener in wanting:
            for subject in listener.subjects() or ():
                by_subject.setdefault(subject, []).append(listener.offer)
        return _Route(
            kind.slot,
            tuple(listener.offer for listener in wanting if listener.cameras is None),
            {subject: tuple(offers) for subject, offers in by_subject.items()},
        )

    def _keep(self, key: tuple[str, str], event: Event) -> None:
        self._latest.pop(key, None)
        self._latest[key] = event
        if len(self._latest) > _MAX_STATES:
            del self._latest[next(iter(self._latest))]


def _ids(camera: Cameras | None) -> frozenset[str] | None:
    if camera is None:
        return None
    one = camera if isinstance(camera, (str, Camera)) else None
    several = (one,) if one is not None else cast("Iterable[str | Camera]", camera)
    return frozenset(item if isinstance(item, str) else item.id for item in several)
