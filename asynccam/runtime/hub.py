"""EventHub: typed events from one emitter to any number of listeners, none of whom can hold up another.

`EventHub.emit` only appends to queues. Each listener drains its own, in order, on later turns of the
loop; a queue that is full loses its oldest event and counts it. Who reads events from a socket asks
`EventHub.room` before, so that only a listener that really is slow loses any. The latest event of each
kind of state is kept, for those who begin to listen later. See docs/events.md.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast, overload

from asynccam.errors import StateError
from asynccam.model.camera import Camera
from asynccam.model.events import Event
from asynccam.runtime.listeners import Callback, E, EventListener, EventStream, Subscription
from asynccam.runtime.tasks import TaskScope
from asynccam.runtime.timing import deadline

__all__ = ["Callback", "Cameras", "E", "EventHub", "EventStream", "Subscription"]

L = TypeVar("L", bound=EventListener)
Offer = Callable[[Event], None]
Cameras = str | Camera | Iterable[str | Camera]
"""Whose events are wanted: one camera or several, as objects or by their ids."""

_KEPT: Final = 20_000
"""States that are kept at most; beyond, the one that has not changed for longest is forgotten."""


@dataclass(frozen=True, slots=True)
class _Route:
    """Who hears events of one class."""

    slot: str
    everyone: tuple[Offer, ...]
    by_subject: dict[str, tuple[Offer, ...]]


class EventHub:
    """Where events are emitted and listened to.

    Args:
        name: For its tasks.
        on_state: Called with every event that is a state, in place and before `emit` returns: for the hub's
            owner alone, who must not block in it, and may emit.

    Attributes:
        dropped: Events lost to slow listeners, all together; each listener counts its own as well.
        failures: Callback calls that raised, all together.
        emitted: Events emitted.
    """

    def __init__(self, name: str = "events", *, on_state: Callable[[Event], None] | None = None) -> None:
        self._scope = TaskScope(name)
        self._listeners: list[EventListener] = []
        self._routes: dict[type[Event], _Route] = {}
        self._latest: dict[tuple[str, str], Event] = {}  # in the order in which they were emitted
        self._closed = False
        self._pressed: set[EventListener] = set()
        self._relief: asyncio.Future[None] | None = None
        self._on_state = on_state
        self.dropped = 0
        self.failures = 0
        self.emitted = 0

    @property
    def listeners(self) -> tuple[EventListener, ...]:
        """All who listen now, each with what it got, what it lost and what it has yet to take."""
        return tuple(self._listeners)

    def emit(self, event: Event) -> None:
        """Queue an event for all it is for; never waits, never raises for a listener's fault."""
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

        For who reads events from a socket: it reads on once the future is done. A listener has room while
        less than half of its queue is taken. It keeps up if it gets there again within half a second in
        which the loop runs; one that does not is not waited for again before it has caught up.

        Returns:
            Done when there is room. Not to be cancelled: others may wait for the same.
        """
        if not self._pressed:
            return None
        if self._relief is None:
            self._relief = asyncio.get_running_loop().create_future()
        return self._relief

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
        """The events of the given types (all, if none is given) as an async iterator.

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
        """The next event of the given types.

        Args:
            types: Event classes; their subclasses count too.
            camera: Only events about this camera, or these.
            timeout: Seconds to wait; None for as long as it takes.
            where: Says whether it is the right one.
            replay: Whether what is so already counts.

        Raises:
            TimeoutError: It did not come.
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
        """The latest event of a state, or None if another one has taken its place since or there was none.

        Args:
            kind: A class of events with a ``slot``, such as `CameraStateChanged`.
            subject: A camera's id, or whatever such events are about.
        """
        event = self._latest.get((kind.slot, subject))
        return event if isinstance(event, kind) else None

    def forget(self, subject: str) -> None:
        """Keep nothing of a camera any longer for those who begin to listen later."""
        for key in [key for key in self._latest if key[1] == subject]:
            del self._latest[key]

    async def drain(self) -> None:
        """Wait until every callback has taken what is queued for it, however long it takes."""
        for listener in self.listeners:
            if isinstance(listener, Subscription):
                await listener.drained()

    async def aclose(self) -> None:
        """Let every listener go; streams end once they have been read, running callbacks are cancelled."""
        self._closed = True
        for listener in tuple(self._listeners):
            listener.cancel()
        await self._scope.aclose()

    # -- for listeners ----------------------------------------------------------------------------

    def remove(self, listener: EventListener) -> None:
        """Offer a listener nothing more; called by its `cancel`."""
        self._listeners.remove(listener)
        self._routes.clear()

    def press(self, listener: EventListener) -> None:
        """Have readers wait for a listener whose queue is half full."""
        self._pressed.add(listener)

    def ease(self, listener: EventListener) -> None:
        """Have readers wait for a listener no longer."""
        self._pressed.discard(listener)
        if not self._pressed and self._relief is not None:
            relief, self._relief = self._relief, None
            if not relief.done():
                relief.set_result(None)

    def finish(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """See a callback's coroutine to its end in a task of the hub."""
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
        if len(self._latest) > _KEPT:
            del self._latest[next(iter(self._latest))]


def _ids(camera: Cameras | None) -> frozenset[str] | None:
    if camera is None:
        return None
    one = camera if isinstance(camera, (str, Camera)) else None
    several = (one,) if one is not None else cast("Iterable[str | Camera]", camera)
    return frozenset(item if isinstance(item, str) else item.id for item in several)
