"""Events from one emitter to many listeners, none of whom can hold up another."""

import asyncio
from dataclasses import dataclass

import pytest

from asynccam.errors import StateError, UsageError
from asynccam.model.events import CameraEvent, CameraLost, Event
from asynccam.runtime.event_hub import EventHub, EventStream
from tests.support.waiting import eventually, passes


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick(Event):
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tock(Tick):
    pass


def ticks(count: int, start: int = 0) -> list[Tick]:
    return [Tick(n=n) for n in range(start, start + count)]


def emit(hub: EventHub, events: list[Tick]) -> None:
    for event in events:
        hub.emit(event)


# -- callbacks ----------------------------------------------------------------------------------


async def test_subscription_gets_events_in_order_after_emit() -> None:
    hub, heard, events = EventHub(), list[Event](), ticks(200)
    with hub.subscribe(heard.append) as subscription:
        emit(hub, events)
        assert heard == []
        await eventually(lambda: len(heard) == 200)
    assert heard == events
    assert (subscription.delivered, subscription.dropped, subscription.failures) == (200, 0, 0)
    assert hub.emitted == 200


async def test_subscription_gets_its_types_and_subclasses_only() -> None:
    hub, heard = EventHub(), dict[str, list[Event]](ticks=[], tocks=[], both=[], none=[])
    hub.subscribe(heard["ticks"].append, Tick)
    hub.subscribe(heard["tocks"].append, Tock)
    hub.subscribe(heard["both"].append, Tock, CameraEvent)
    hub.subscribe(heard["none"].append, CameraEvent)
    tick, tock = Tick(n=1), Tock(n=2)
    emit(hub, [tick, tock])
    await passes()
    assert heard == {"ticks": [tick, tock], "tocks": [tock], "both": [tock], "none": []}


async def test_late_subscriber_gets_later_events_only() -> None:
    hub, early, late = EventHub(), list[Event](), list[Event]()
    hub.subscribe(early.append)
    hub.emit(Tick(n=1))
    hub.subscribe(late.append)
    hub.emit(Tick(n=2))
    await passes()
    assert [len(early), len(late)] == [2, 1]


async def test_subscription_awaits_async_callback_before_the_next() -> None:
    hub, running, heard = EventHub(), 0, list[int]()

    async def listen(event: Tick) -> None:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0)
        heard.append(event.n)
        running -= 1

    hub.subscribe(listen, Tick)
    emit(hub, ticks(20))
    await eventually(lambda: len(heard) == 20)
    assert heard == list(range(20))
    await hub.aclose()


@pytest.mark.parametrize("suspends", [False, True])
async def test_async_callback_runs_in_one_task_for_all_that_is_queued(suspends: bool) -> None:
    hub, heard, tasks = EventHub(), list[int](), list[object]()

    async def listen(event: Tick) -> None:
        tasks.append(asyncio.current_task())
        if suspends:
            await asyncio.sleep(0)
        heard.append(event.n)
        if event.n == 5:
            raise KeyError("bug")

    subscription = hub.subscribe(listen, Tick)
    emit(hub, ticks(1000))
    await hub.drain()
    assert heard == list(range(1000))
    assert len(set(tasks)) == 1
    assert (subscription.failures, subscription.delivered) == (1, 1000)
    emit(hub, ticks(3))
    await hub.drain()
    assert heard[1000:] == [0, 1, 2]
    await hub.aclose()


async def test_async_callback_that_never_suspends_yields_to_others_and_the_loop() -> None:
    hub, heard = EventHub(), list[int]()

    async def listen(event: Tick) -> None:
        heard.append(event.n)

    hub.subscribe(listen, Tick)
    emit(hub, ticks(1000))
    while len(heard) < 1000:
        before = len(heard)
        await asyncio.sleep(0)
        assert len(heard) - before <= 512
    await hub.aclose()


async def test_callback_may_be_async_for_some_events_only() -> None:
    hub, heard = EventHub(), list[int]()

    async def later(event: Tick) -> None:
        await asyncio.sleep(0)
        heard.append(event.n)

    def listen(event: Tick) -> object:
        if event.n % 3 == 0:
            return later(event)
        if event.n % 3 == 2:
            raise KeyError("bug")
        heard.append(event.n)
        return None

    subscription = hub.subscribe(listen, Tick)
    emit(hub, ticks(300))
    await hub.drain()
    assert heard == [n for n in range(300) if n % 3 != 2]
    assert subscription.failures == 100
    await hub.aclose()


async def test_cancelling_a_subscription_lets_its_callback_end() -> None:
    hub, heard, gate = EventHub(), list[int](), asyncio.Event()

    async def listen(event: Tick) -> None:
        await gate.wait()
        heard.append(event.n)

    subscription = hub.subscribe(listen, Tick)
    emit(hub, ticks(10))
    await passes()
    subscription.cancel()
    gate.set()
    await eventually(lambda: heard == [0])
    await passes()
    assert heard == [0]
    await hub.aclose()


async def test_stuck_subscriber_delays_no_other_and_counts_drops() -> None:
    hub, heard, gate = EventHub(), list[int](), asyncio.Event()
    stuck_heard: list[int] = []

    async def stick(event: Tick) -> None:
        await gate.wait()
        stuck_heard.append(event.n)

    stuck = hub.subscribe(stick, Tick, maxsize=3)
    hub.subscribe(lambda event: heard.append(event.n), Tick)
    emit(hub, ticks(1))
    await passes()
    emit(hub, ticks(10, start=1))
    await eventually(lambda: len(heard) == 11)
    assert (stuck.dropped, hub.dropped) == (7, 7)
    gate.set()
    await eventually(lambda: stuck_heard == [0, 8, 9, 10])  # the newest are kept
    await hub.aclose()


async def test_busy_subscriber_yields_to_others_and_the_loop() -> None:
    hub, heard = EventHub(), list[int]()
    hub.subscribe(lambda event: heard.append(event.n), Tick)
    emit(hub, ticks(1000))
    await asyncio.sleep(0)
    assert 0 < len(heard) < 1000
    await eventually(lambda: len(heard) == 1000)


@pytest.mark.parametrize("kind", ["sync", "async", "cancelled"])
async def test_failing_subscriber_stays_subscribed(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    hub, heard, failed = EventHub(), list[int](), list[int]()

    def fail(event: Tick) -> None:
        failed.append(event.n)
        raise KeyError("bug")

    async def fail_later(event: Tick) -> None:
        failed.append(event.n)
        await asyncio.sleep(0)
        if kind == "async":
            raise KeyError("bug")
        gone = asyncio.get_running_loop().create_future()
        gone.cancel()
        await gone

    subscription = hub.subscribe(fail if kind == "sync" else fail_later, Tick)
    hub.subscribe(lambda event: heard.append(event.n), Tick)
    emit(hub, ticks(3))
    await eventually(lambda: len(failed) == 3 and len(heard) == 3)
    await eventually(lambda: subscription.failures == 3)
    assert hub.failures == 3
    assert len(caplog.records) == 1  # one line, not one for every event
    await hub.aclose()


async def test_callback_may_emit_subscribe_and_cancel() -> None:
    hub, heard = EventHub(), list[int]()

    def listen(event: Tick) -> None:
        heard.append(event.n)
        if event.n < 3:
            hub.emit(Tick(n=event.n + 1))
        else:
            subscription.cancel()
            hub.subscribe(lambda later: heard.append(later.n * 10), Tick)

    subscription = hub.subscribe(listen, Tick)
    hub.emit(Tick(n=0))
    await eventually(lambda: not subscription.active)
    hub.emit(Tick(n=5))
    await eventually(lambda: len(heard) == 5)
    assert heard == [0, 1, 2, 3, 50]


async def test_cancelled_subscription_discards_its_queue() -> None:
    hub, heard = EventHub(), list[Event]()
    subscription = hub.subscribe(heard.append)
    emit(hub, ticks(5))
    subscription.cancel()
    subscription.cancel()
    emit(hub, ticks(5))
    await passes()
    assert heard == []
    assert subscription.dropped == 0


# -- streams ------------------------------------------------------------------------------------


async def read(stream: EventStream[Tick]) -> list[int]:
    return [event.n async for event in stream]


async def test_stream_subscribes_when_created() -> None:
    hub = EventHub()
    with hub.stream(Tick) as stream:
        emit(hub, ticks(3))
        hub.emit(CameraLost(camera="multicam://Hill"))
        assert [(await anext(stream)).n for _ in range(3)] == [0, 1, 2]
        reader = asyncio.create_task(read(stream))
        await passes()
        emit(hub, ticks(2, start=3))
        await passes()
        stream.cancel()
        assert await reader == [3, 4]


async def test_stream_without_types_gets_everything() -> None:
    hub = EventHub()
    with hub.stream() as stream:
        hub.emit(CameraLost(camera="multicam://Hill"))
        assert isinstance(await anext(stream), CameraLost)


async def test_slow_stream_drops_the_oldest_and_counts() -> None:
    hub = EventHub()
    with hub.stream(Tick, maxsize=2) as stream:
        emit(hub, ticks(5))
        stream.cancel()
        assert await read(stream) == [3, 4]
    assert (stream.dropped, hub.dropped) == (3, 3)


async def test_stream_has_one_reader_at_a_time() -> None:
    hub = EventHub()
    with hub.stream(Tick) as stream:
        reader = asyncio.create_task(read(stream))
        await passes()
        with pytest.raises(StateError, match="one reader"):
            await anext(stream)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        hub.emit(Tick(n=1))
        assert (await anext(stream)).n == 1


async def test_stream_cancelled_reader_loses_no_event() -> None:
    hub = EventHub()
    with hub.stream(Tick) as stream:
        reader = asyncio.create_task(anext(stream))
        await passes()
        hub.emit(Tick(n=1))
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert (await anext(stream)).n == 1


# -- the end ------------------------------------------------------------------------------------


async def test_closing_ends_streams_once_read_and_cancels_callbacks() -> None:
    hub, cancelled = EventHub(), list[int]()

    async def stick(event: Tick) -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.append(event.n)
            raise

    hub.subscribe(stick, Tick)
    stream = hub.stream(Tick)
    emit(hub, ticks(2))
    await passes()
    await hub.aclose()
    await hub.aclose()
    assert cancelled == [0]
    assert await read(stream) == [0, 1]
    hub.emit(Tick(n=9))
    await passes()
    assert cancelled == [0]


async def test_drain_waits_for_callbacks_not_for_streams() -> None:
    hub, heard = EventHub(), list[int]()

    async def listen(event: Tick) -> None:
        await passes(3)
        heard.append(event.n)

    hub.subscribe(listen, Tick)
    stream = hub.stream(Tick)
    emit(hub, ticks(20))
    await hub.drain()
    assert heard == list(range(20))
    assert stream.waiting == 20
    await hub.aclose()


async def test_closed_hub_refuses_listeners() -> None:
    hub = EventHub()
    await hub.aclose()
    with pytest.raises(StateError):
        hub.subscribe(print)
    with pytest.raises(StateError):
        hub.stream()


async def test_callback_may_close_the_hub() -> None:
    hub, closed = EventHub(), asyncio.Event()

    async def close(event: Tick) -> None:
        await hub.aclose()
        closed.set()

    hub.subscribe(close, Tick)
    emit(hub, ticks(2))
    await asyncio.wait_for(closed.wait(), 5)


@pytest.mark.parametrize("maxsize", [0, -1])
async def test_queue_size_below_one_is_refused(maxsize: int) -> None:
    hub = EventHub()
    with pytest.raises(UsageError):
        hub.subscribe(print, maxsize=maxsize)
    with pytest.raises(UsageError):
        hub.stream(maxsize=maxsize)
    hub.emit(Tick(n=1))


# -- room ---------------------------------------------------------------------------------------


async def test_room_until_a_queue_is_half_full() -> None:
    hub = EventHub()
    heard: list[Event] = []
    hub.subscribe(heard.append, maxsize=80)
    for _ in range(40):
        hub.emit(Event())
        assert hub.room() is None
    hub.emit(Event())
    room = hub.room()
    assert room is not None
    assert hub.room() is room
    await room
    assert hub.room() is None
    await hub.drain()
    assert (len(heard), hub.dropped) == (41, 0)
    await hub.aclose()


async def test_room_pauses_readers_until_callbacks_had_their_turn() -> None:
    hub, heard, most = EventHub(), list[int](), 0
    for event in ticks(200):
        hub.emit(event)
    assert hub.room() is None, "without listeners"
    subscription = hub.subscribe(lambda event: heard.append(event.n), Tick)
    stuck = hub.subscribe(lambda event: asyncio.sleep(3600), Tick)
    for event in ticks(1000):
        if (room := hub.room()) is not None:
            assert hub.room() is room
            await room
            assert subscription.waiting == 0
        hub.emit(event)
        most = max(most, subscription.waiting)
    assert 1 < most < 64
    assert not stuck.is_slow, "it has room, so no reader waits for it"
    await passes()
    assert heard == list(range(1000))
    await hub.aclose()


async def test_room_waits_for_a_slow_listener_once_until_it_caught_up() -> None:
    hub = EventHub()
    stream = hub.stream(maxsize=4)
    for _ in range(3):
        hub.emit(Event())
    room = hub.room()
    assert room is not None
    async with asyncio.timeout(30):
        await room
    assert stream.is_slow
    for _ in range(9):
        hub.emit(Event())
        assert hub.room() is None
    assert (stream.waiting, stream.dropped) == (4, 8)
    for _ in range(4):
        await anext(stream)
    assert not stream.is_slow
    for _ in range(3):
        hub.emit(Event())
    room = hub.room()
    assert room is not None
    stream.cancel()
    await room
    assert hub.room() is None
    await hub.aclose()


async def test_room_ignores_cancelled_and_closed_listeners() -> None:
    hub = EventHub()
    hub.subscribe(lambda event: asyncio.sleep(3600), maxsize=1)
    for _ in range(3):
        hub.emit(Event())
    room = hub.room()
    assert room is not None
    await hub.aclose()
    await room
