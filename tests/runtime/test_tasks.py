"""Owned tasks: named, awaited, and gone when their owner is."""

import asyncio
import logging
from collections.abc import Callable

import pytest

from asynccam.errors import ConnectionError, StateError, TimeoutError
from asynccam.runtime.tasks import Ready, TaskScope, TurnLimiter, finish, finish_on_error, in_turn
from tests.support.turns import Turns
from tests.support.waiting import eventually, passes


class Sleeper:
    """Sleeps for ever and remembers how that ended."""

    def __init__(self, cleanup: Callable[[], None] = lambda: None) -> None:
        self.started = asyncio.Event()
        self.ended = False
        self._cleanup = cleanup

    async def run(self) -> None:
        self.started.set()
        try:
            await asyncio.sleep(3600)
        finally:
            self.ended = True
            self._cleanup()


async def fail(error: BaseException) -> None:
    raise error


async def give(value: int) -> int:
    return value


# -- spawn and close ----------------------------------------------------------------------------


async def test_scope_names_its_tasks_and_ends_them() -> None:
    sleeper = Sleeper()
    async with TaskScope("camera") as scope:
        task = scope.spawn(sleeper.run(), name="reader")
        assert task.get_name() == "camera:reader"
        assert scope.tasks == {task}
        await sleeper.started.wait()
    assert sleeper.ended
    assert task.cancelled()
    assert not scope.tasks


async def test_scope_releases_a_finished_task() -> None:
    async with TaskScope("camera") as scope:
        task = scope.spawn(give(7), name="give")
        assert await task == 7
        await asyncio.sleep(0)
        assert not scope.tasks


async def test_closed_scope_runs_nothing() -> None:
    scope = TaskScope("camera")
    await scope.aclose()
    await scope.aclose()
    with pytest.raises(StateError, match="camera is closed"):
        scope.spawn(give(1), name="late")


async def test_scope_reports_a_failure_once() -> None:
    reports: list[tuple[str, str]] = []
    scope = TaskScope("camera", on_failure=lambda name, error: reports.append((name, str(error))))
    async with scope:
        scope.spawn(fail(ConnectionError("gone")), name="reader")
        other = Sleeper()
        scope.spawn(other.run(), name="other")
        await eventually(lambda: reports)
        assert not other.ended
    assert reports == [("camera:reader", "gone")]


async def test_scope_without_handler_logs_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    async with TaskScope("camera") as scope:
        scope.spawn(fail(ConnectionError("gone")), name="reader")
        await eventually(lambda: caplog.records)
    (record,) = caplog.records
    assert record.getMessage() == "task camera:reader failed"
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "gone"


async def test_scope_reports_a_failure_during_cancellation(caplog: pytest.LogCaptureFixture) -> None:
    def spoil() -> None:
        raise KeyError("clean-up")

    async with TaskScope("camera") as scope:
        sleeper = Sleeper(spoil)
        scope.spawn(sleeper.run(), name="reader")
        await sleeper.started.wait()
    assert "camera:reader failed" in caplog.text


async def test_task_may_close_its_own_scope() -> None:
    scope, sleeper = TaskScope("camera"), Sleeper()
    scope.spawn(sleeper.run(), name="sleeper")
    await sleeper.started.wait()
    await asyncio.wait_for(scope.spawn(scope.aclose(), name="closer"), 5)
    assert sleeper.ended


async def test_aclose_names_a_task_that_ignores_cancellation() -> None:
    release = asyncio.Event()

    async def deaf() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    scope = TaskScope("camera")
    task = scope.spawn(deaf(), name="deaf")
    await asyncio.sleep(0)
    with pytest.raises(TimeoutError, match="camera:deaf"):
        await scope.aclose(timeout=0.02)
    release.set()
    await task


async def test_aclose_survives_cancellation() -> None:
    clean = asyncio.Event()
    order: list[str] = []

    async def slow_to_end() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await clean.wait()
            order.append("cleaned")

    async def own() -> None:
        async with TaskScope("camera") as scope:
            scope.spawn(slow_to_end(), name="slow")
            await asyncio.sleep(0)
        order.append("never")

    owner = asyncio.create_task(own())
    await passes()
    for _ in range(3):
        owner.cancel()
        await asyncio.sleep(0)
    assert not owner.done()
    clean.set()
    with pytest.raises(asyncio.CancelledError):
        await owner
    assert order == ["cleaned"]


# -- start --------------------------------------------------------------------------------------


async def test_start_waits_until_ready_and_keeps_the_task() -> None:
    async def serve(ready: Ready[int]) -> None:
        await passes()
        ready(8080)
        ready(9090)  # the first word counts
        await asyncio.sleep(3600)

    async with TaskScope("server") as scope:
        assert await scope.start(serve, name="serve", timeout=5) == 8080
        assert [task.get_name() for task in scope.tasks] == ["server:serve"]


async def test_start_raises_the_failure_of_the_task() -> None:
    async def serve(ready: Ready[int]) -> None:
        raise ConnectionError("port taken")

    async with TaskScope("server") as scope:
        with pytest.raises(ConnectionError, match="port taken"):
            await scope.start(serve, name="serve", timeout=5)
        assert not scope.tasks


async def test_start_of_a_task_that_ends_unready() -> None:
    async def serve(ready: Ready[int]) -> None:
        return

    async with TaskScope("server") as scope:
        with pytest.raises(StateError, match="server:serve ended before it was ready"):
            await scope.start(serve, name="serve", timeout=5)


async def test_start_of_a_task_that_ends_when_ready() -> None:
    async def serve(ready: Ready[int]) -> None:
        ready(1)

    async with TaskScope("server") as scope:
        assert await scope.start(serve, name="serve", timeout=5) == 1


async def test_start_reports_a_later_failure_to_the_owner() -> None:
    reports: list[str] = []

    async def serve(ready: Ready[int]) -> None:
        ready(1)
        await asyncio.sleep(0)
        raise ConnectionError("later")

    async with TaskScope("server", on_failure=lambda name, error: reports.append(str(error))) as scope:
        await scope.start(serve, name="serve", timeout=5)
        await eventually(lambda: reports)
    assert reports == ["later"]


async def test_start_timeout_ends_the_task_first() -> None:
    sleeper = Sleeper()
    async with TaskScope("server") as scope:
        with pytest.raises(TimeoutError, match="readiness of server:serve"):
            await scope.start(lambda ready: sleeper.run(), name="serve", timeout=0.02)
        assert sleeper.ended
        assert not scope.tasks


@pytest.mark.parametrize("ready_first", [False, True])
async def test_start_cancelled_ends_a_task_that_became_ready(ready_first: bool) -> None:
    sleeper, word = Sleeper(), list[Ready[int]]()

    async def serve(ready: Ready[int]) -> None:
        word.append(ready)
        await sleeper.run()

    async with TaskScope("server") as scope:
        starter = asyncio.create_task(scope.start(serve, name="serve", timeout=30))
        await sleeper.started.wait()
        if ready_first:
            word[0](1)
        starter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starter
        assert sleeper.ended
        assert not scope.tasks


async def test_finish_on_error_cleans_up_only_after_a_failure() -> None:
    ended = []

    async def end() -> None:
        await passes()
        ended.append(True)

    async with finish_on_error(end):
        pass
    assert not ended
    with pytest.raises(KeyError, match="x"):
        async with finish_on_error(end):
            raise KeyError("x")
    assert ended == [True]


async def test_finish_on_error_cleans_up_after_cancellation() -> None:
    begun, ended = asyncio.Event(), []

    async def end() -> None:
        await passes()
        ended.append(True)

    async def run() -> None:
        async with finish_on_error(end):
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(run())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [True]


# -- gather -------------------------------------------------------------------------------------


async def test_gather_gives_results_and_failures_by_key_in_order() -> None:
    error = ConnectionError("gone")
    async with TaskScope("take") as scope:
        results = await scope.gather({"b": give(1), "a": fail(error), "c": give(3)}, name="arm")
        assert results == {"b": 1, "a": error, "c": 3}
        assert list(results) == ["b", "a", "c"]
        assert await scope.gather({}, name="nothing") == {}


async def test_gather_all_raises_first_failure_after_every_job_ended() -> None:
    first, second = ConnectionError("first"), ConnectionError("second")
    sleeper = Sleeper()
    async with TaskScope("take") as scope:
        assert await scope.gather_all({"b": give(1), "a": give(2)}, name="arm") == {"b": 1, "a": 2}
        jobs = {0: give(1), 1: fail(first), 2: sleeper.run(), 3: fail(second)}
        gathering = asyncio.create_task(scope.gather_all(jobs, name="arm"))
        await sleeper.started.wait()
        await passes()
        assert not gathering.done()
        next(one for one in scope.tasks if one.get_name() == "take:arm[2]").cancel()
        with pytest.raises(ConnectionError) as caught:
            await gathering
    assert caught.value is first
    assert sleeper.ended


async def test_gather_names_its_tasks_by_key() -> None:
    async def name() -> str:
        task = asyncio.current_task()
        assert task is not None
        return task.get_name()

    async with TaskScope("take") as scope:
        assert await scope.gather({"hill": name()}, name="arm") == {"hill": "take:arm[hill]"}


async def test_gather_failure_disturbs_no_other() -> None:
    gate = asyncio.Event()

    async def wait() -> str:
        await gate.wait()
        return "whole"

    async with TaskScope("take") as scope:
        gathering = asyncio.create_task(scope.gather({1: fail(KeyError("x")), 2: wait()}, name="stop"))
        await passes()
        assert not gathering.done()
        gate.set()
        results = await gathering
    assert results[2] == "whole"


async def test_gather_cancelled_ends_every_job_first(caplog: pytest.LogCaptureFixture) -> None:
    sleepers = [Sleeper(), Sleeper()]
    async with TaskScope("take") as scope:
        jobs = {0: sleepers[0].run(), 1: sleepers[1].run(), 2: fail(KeyError("early"))}
        gathering = asyncio.create_task(scope.gather(jobs, name="arm"))
        await sleepers[1].started.wait()
        gathering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gathering
        assert [one.ended for one in sleepers] == [True, True]
    assert [record.getMessage() for record in caplog.records] == ["task take:arm[2] failed"]


async def test_gather_job_cancelled_from_outside_is_a_failure() -> None:
    async with TaskScope("take") as scope:
        sleeper = Sleeper()
        gathering = asyncio.create_task(scope.gather({1: sleeper.run(), 2: give(2)}, name="arm"))
        await sleeper.started.wait()
        (task,) = (one for one in scope.tasks if one.get_name() == "take:arm[1]")
        task.cancel()
        results = await gathering
    assert isinstance(results[1], StateError)
    assert results[2] == 2


async def test_gather_on_a_closed_scope_closes_the_coroutines() -> None:
    scope = TaskScope("take")
    await scope.aclose()
    with pytest.raises(StateError):
        await scope.gather({1: give(1), 2: give(2)}, name="arm")


# -- finish -------------------------------------------------------------------------------------


async def test_finish_returns_the_result_or_raises() -> None:
    assert await finish(give(1)) == 1
    with pytest.raises(KeyError):
        await finish(fail(KeyError("x")))


@pytest.mark.parametrize("error", [None, KeyError("clean-up")])
async def test_finish_completes_before_raising_the_cancellation(error: Exception | None) -> None:
    gate, done = asyncio.Event(), list[str]()

    async def clean_up() -> None:
        await gate.wait()
        done.append("clean")
        if error is not None:
            raise error

    task = asyncio.create_task(finish(clean_up()))
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert done == ["clean"]
    assert caught.value.__cause__ is error


async def test_asyncio_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Every failure above was looked at by somebody; asyncio complains of those nobody did."""
    caplog.set_level(logging.ERROR, "asyncio")
    task = asyncio.create_task(finish(fail(KeyError("x"))))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    del task
    assert not [record for record in caplog.records if record.name == "asyncio"]


async def test_see_done_survives_cancellations_and_keeps_their_count() -> None:
    over = asyncio.Event()
    seen: list[tuple[int, str, str]] = []

    async def own() -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            await finish(over.wait())
        except asyncio.CancelledError as error:
            seen.append((task.cancelling(), str(error), str(error.__context__)))
            raise

    owner = asyncio.create_task(own())
    await asyncio.sleep(0)
    for words in ("the first", "another", "the last"):
        owner.cancel(words)
        await asyncio.sleep(0)
        assert not owner.done()
    over.set()
    with pytest.raises(asyncio.CancelledError):
        await owner
    assert seen == [(3, "the last", "the first")]


# -- turns of the event loop --------------------------------------------------------------------


async def test_gather_starts_hundreds_of_jobs_in_turns() -> None:
    async def job(number: int) -> int:
        turns.mark("job")
        return number

    with Turns() as turns:
        async with TaskScope("cameras") as scope:
            results = await scope.gather({number: job(number) for number in range(300)}, name="stop")
    assert list(results.values()) == list(range(300))
    assert 1 < turns.most("job") <= 16


async def test_gather_cancelled_between_its_starts_leaves_nothing() -> None:
    ran: list[int] = []

    async def job(number: int) -> None:
        ran.append(number)
        await asyncio.sleep(3600)

    async with TaskScope("cameras") as scope:
        gathering = asyncio.create_task(scope.gather({n: job(n) for n in range(300)}, name="stop"))
        await passes(3)
        gathering.cancel()
        await asyncio.wait({gathering})
        assert gathering.cancelled()
        assert not scope.tasks
    assert 0 < len(ran) < 300


async def test_two_fan_outs_share_the_limit_of_a_turn() -> None:
    async def pass_often() -> None:
        for _ in range(40):
            await in_turn()
            turns.mark("passed")

    with Turns() as turns:
        async with TaskScope("cameras") as scope:
            await scope.gather({number: pass_often() for number in range(50)}, name="read")
    assert turns.total("passed") == 2000
    assert turns.most("passed") <= 32  # the limit may be used up once before and once after it is reset


async def test_turn_limiter_is_fair_and_forgets_cancelled_tasks() -> None:
    limiter = TurnLimiter(2)
    passed: list[int] = []

    async def go(number: int) -> None:
        await limiter.wait()
        passed.append(number)

    tasks = [asyncio.create_task(go(number)) for number in range(8)]
    await asyncio.sleep(0)
    assert passed == [0, 1]
    tasks[2].cancel()
    await asyncio.wait(tasks)
    assert passed == [0, 1, 3, 4, 5, 6, 7]
    await passes(3)
    await limiter.wait()  # and again, after it has been idle


async def test_sleepers_of_one_moment_wake_in_turns() -> None:
    limiter = TurnLimiter(10)

    async def sleep() -> None:
        await limiter.sleep(0.01)
        turns.mark("awake")

    with Turns() as turns:
        async with TaskScope("cameras") as scope:
            await scope.gather({number: sleep() for number in range(200)}, name="poll")
    assert turns.total("awake") == 200
    assert turns.most("awake") <= 20


async def test_sleeper_that_is_cancelled_takes_its_timer_along() -> None:
    limiter = TurnLimiter(1)
    sleeping = asyncio.create_task(limiter.sleep(3600))
    await passes()
    sleeping.cancel()
    await asyncio.wait({sleeping})
    assert sleeping.cancelled()
