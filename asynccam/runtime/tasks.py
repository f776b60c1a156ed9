"""Owned tasks, and blocking work in threads: the only module of asynccam that creates tasks.

Every task has a name and an owner, whose `aclose` cancels and awaits it. A failing task is reported once, to
the owner's ``on_failure``. `in_turn` spreads what hundreds of tasks do at once over turns of the event loop.
"""

import asyncio
import logging
import os
import sys
from collections import deque
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Hashable,
    Iterator,
    Mapping,
)
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import copy_context
from functools import partial
from typing import Any, Final, Generic, NoReturn, TypeVar, TypeVarTuple
from weakref import WeakKeyDictionary, WeakSet

from asynccam.errors import BusyError, StateError, TimeoutError
from asynccam.runtime.timing import deadline

_LOG = logging.getLogger(__name__)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
K = TypeVar("K", bound=Hashable)


FailureHandler = Callable[[str, Exception], None]
"""Called with the task's name and its exception."""


class Ready(Generic[T]):
    """Callback for a task of `TaskScope.start`, which calls it once it is ready."""

    def __init__(self, future: "asyncio.Future[T]") -> None:
        self._future = future

    def __call__(self, value: T) -> None:
        """Report that the task is ready, with the value that `TaskScope.start` returns."""
        if not self._future.done():
            self._future.set_result(value)


class TaskScope:
    """Owner of tasks, whose names begin with its name.

    ``on_failure`` is called for a task that ends with an `Exception`; by default it is logged.
    """

    def __init__(self, name: str, *, on_failure: FailureHandler | None = None) -> None:
        self.name = name
        self._on_failure = on_failure
        self._tasks: set[asyncio.Task[Any]] = set()
        self.closed = False  # whether `aclose` was called: no task is created any longer

    @property
    def tasks(self) -> frozenset["asyncio.Task[Any]"]:
        """Tasks that are still running."""
        return frozenset(self._tasks)

    def spawn(self, coroutine: Coroutine[Any, Any, T], *, name: str) -> "asyncio.Task[T]":
        """Run a coroutine as a task of this scope; raise `StateError` and close it if the scope is closed."""
        task = self._create(coroutine, name)
        task.add_done_callback(self._report)
        return task

    async def start(
        self, function: Callable[[Ready[T]], Coroutine[Any, Any, Any]], *, name: str, timeout: float | None
    ) -> T:
        """Run ``function(ready)`` as a task and wait until it calls ``ready(value)``.

        If the task fails before it is ready its exception is raised here, and if the deadline
        passes or the caller is cancelled the task is cancelled and awaited first.

        Raises:
            TimeoutError: The task was not ready within ``timeout`` seconds.
            StateError: The scope is closed, or the task returned without being ready.
        """
        up: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        task = self._create(function(Ready(up)), name)
        try:
            async with deadline(timeout, f"readiness of {task.get_name()}"):
                await asyncio.wait({up, task}, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            # Even if it is ready by now: the caller does not learn of it.
            task.add_done_callback(self._report)
            await _reap({task})
            raise
        if up.done():
            task.add_done_callback(self._report)
            return up.result()
        if not task.cancelled():
            task.result()
        raise StateError(f"{task.get_name()} ended before it was ready")

    async def gather(self, jobs: Mapping[K, Coroutine[Any, Any, T]], *, name: str) -> dict[K, T | Exception]:
        """Run all jobs concurrently to their ends, and return each one's result or exception by key.

        Hundreds of jobs start in several turns of the event loop, see `in_turn`. Cancelling the caller
        cancels every job and waits for them.
        """
        tasks: dict[K, asyncio.Task[T]] = {}
        try:
            for key, job in jobs.items():
                await in_turn()
                tasks[key] = self._create(job, f"{name}[{key}]")
            running = [task for task in tasks.values() if not task.done()]
            if running:
                await asyncio.wait(running)
        except BaseException:
            for key, job in jobs.items():
                if key not in tasks:
                    job.close()
            for task in tasks.values():
                task.add_done_callback(self._report)
            await _reap(set(tasks.values()))
            raise
        results: dict[K, T | Exception] = {}
        for key, task in tasks.items():
            if task.cancelled():
                results[key] = StateError(f"{task.get_name()} was cancelled")
                continue
            error = task.exception()
            if error is None:
                results[key] = task.result()
            elif isinstance(error, Exception):
                results[key] = error
            else:
                raise error
        return results

    async def gather_all(self, jobs: Mapping[K, Coroutine[Any, Any, T]], *, name: str) -> dict[K, T]:
        """Run all jobs to their ends; then raise the first exception in the order of ``jobs``, if any."""
        results: dict[K, T] = {}
        for key, result in (await self.gather(jobs, name=name)).items():
            if isinstance(result, Exception):
                raise result
            results[key] = result
        return results

    async def aclose(self, *, timeout: float = 10.0) -> None:
        """Cancel every task and wait for it; harmless when called twice.

        Raises:
            TimeoutError: A task did not end within ``timeout`` seconds after its cancellation.
        """
        self.closed = True
        current = asyncio.current_task()
        await _reap({task for task in self._tasks if task is not current}, timeout)

    async def __aenter__(self) -> "TaskScope":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _create(self, coroutine: Coroutine[Any, Any, T], name: str) -> "asyncio.Task[T]":
        if self.closed:
            coroutine.close()
            raise StateError(f"{self.name} is closed and runs no further task ({name})")
        task = asyncio.get_running_loop().create_task(coroutine, name=f"{self.name}:{name}")
        self._tasks.add(task)
        _LOOPS.setdefault(task.get_loop(), os.getpid())
        _TASKS.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _report(self, task: "asyncio.Task[Any]") -> None:
        if task.cancelled():
            return
        error = task.exception()
        if not isinstance(error, Exception):
            return
        if self._on_failure is not None:
            self._on_failure(task.get_name(), error)
        else:
            _LOG.error("task %s failed", task.get_name(), exc_info=error)


async def _reap(tasks: set["asyncio.Task[Any]"], timeout: float = 10.0) -> None:
    """Cancel tasks and wait until all have ended, even if the caller is cancelled meanwhile."""
    if belongs_to_parent():
        leave_child()
    pending = {task for task in tasks if not task.done()}
    for task in pending:
        task.cancel()
    loop = asyncio.get_running_loop()
    until = loop.time() + timeout
    try:
        await see_done(pending, until=until)
    finally:
        late = ", ".join(sorted(task.get_name() for task in pending if not task.done()))
        if late:
            _LOG.warning("tasks did not end after their cancellation within %g s: %s", timeout, late)
    if late:
        raise TimeoutError(f"tasks did not end after their cancellation within {timeout:g} s: {late}")


async def see_done(futures: Collection["asyncio.Future[Any]"], *, until: float | None = None) -> None:
    """Wait until all futures are done, however often the caller is cancelled, then raise the cancellation.

    Some frameworks deliver a cancellation at every turn of the loop, and a timeout and a failing sibling
    deliver one each. Each sender takes its delivery back, so `asyncio.Task.cancelling` is not touched here.

    The futures are not cancelled. The wait ends at ``until``, in the loop's time, if they are not done then.
    """
    if belongs_to_parent():
        leave_child()
    loop = asyncio.get_running_loop()
    first: asyncio.CancelledError | None = None
    latest: asyncio.CancelledError | None = None
    while pending := [future for future in futures if not future.done()]:
        left = None if until is None else until - loop.time()
        if left is not None and left <= 0:
            break
        try:
            await asyncio.wait(pending, timeout=left)
        except asyncio.CancelledError as error:
            first, latest = first or error, error
    if latest is not None:
        if latest is not first:
            # A sender that identifies its cancellation by the message finds the first one here.
            latest.__context__ = first
        raise latest


async def finish(awaitable: Awaitable[T]) -> T:
    """Await something to its end even when cancelled meanwhile, then raise the cancellation.

    For clean-up that must not be interrupted: closing a file, reaping a process. The awaitable must bound
    itself. Its exception after the caller was cancelled is the ``__cause__`` of the cancellation.

    In a forked child nothing is done, because the resources are the parent's; see `leave_child`.
    """
    if belongs_to_parent():
        if isinstance(awaitable, Coroutine):
            awaitable.close()
        leave_child()
    task = asyncio.ensure_future(awaitable)
    try:
        await see_done({task})
    except asyncio.CancelledError as cancelled:
        # The caller gets the cancellation; a failure meanwhile is its cause.
        raise cancelled from (None if task.cancelled() else task.exception())
    return task.result()


@asynccontextmanager
async def finish_on_error(end: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """If the block raises or is cancelled, `finish` what ``end`` returns before the exception goes on."""
    try:
        yield
    except BaseException:
        await finish(end())
        raise


# -- work spread over turns of the event loop ---------------------------------------------------

_PER_TURN: Final = 16
"""Tasks that are made ready in one turn: some milliseconds of work, also on a small computer."""


class TurnLimiter:
    """Limits how many tasks it makes ready in each turn of the event loop, in the order of the calls."""

    def __init__(self, per_turn: int = _PER_TURN) -> None:
        self._per_turn = per_turn
        self._left = per_turn
        self._waiting: deque[Callable[[], object]] = deque()
        self._is_counting = False  # whether `_begin_turn` is called in the next turn

    def call(self, function: Callable[[], object]) -> None:
        """Call what makes a task ready: now, or in a later turn if the limit of this one is reached."""
        if self._admits():
            function()
        else:
            self._waiting.append(function)

    async def wait(self) -> None:
        """Return at once, or in a later turn if the limit of this one is reached."""
        if not self._admits():
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(partial(set_result, turn, None))
            await turn

    async def sleep(self, seconds: float) -> None:
        """Sleep, and return in a turn of which the limit is not reached: hundreds may wake at one moment."""
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, self.call, partial(set_result, over, None))
        try:
            await over
        finally:
            timer.cancel()

    def _admits(self) -> bool:
        if not self._is_counting:
            self._is_counting = True
            asyncio.get_running_loop().call_soon(self._begin_turn)
        admits = self._left > 0 and not self._waiting
        self._left -= admits
        return admits

    def _begin_turn(self) -> None:
        self._left = self._per_turn
        while self._waiting and self._left:
            self._left -= 1
            self._waiting.popleft()()
        self._is_counting = bool(self._waiting)  # else the next call begins to count again
        if self._is_counting:
            asyncio.get_running_loop().call_soon(self._begin_turn)


def set_result(future: "asyncio.Future[T]", result: T) -> None:
    """Set a future's result, unless it is done: then its task was cancelled."""
    if not future.done():
        future.set_result(result)


_TURN_LIMITERS: Final["WeakKeyDictionary[asyncio.AbstractEventLoop, TurnLimiter]"] = WeakKeyDictionary()


def turn_limiter() -> TurnLimiter:
    """Return the running loop's limiter, which everything on it shares."""
    loop = asyncio.get_running_loop()
    limiter = _TURN_LIMITERS.get(loop)
    if limiter is None:
        limiter = _TURN_LIMITERS[loop] = TurnLimiter()
    return limiter


async def in_turn() -> None:
    """Return at once, or in a later turn of the event loop if 16 tasks were made ready in this one already.

    Called before each portion of work that hundreds of tasks may do at the same moment, so that they do not
    block the loop together.
    """
    await turn_limiter().wait()


# -- a forked child -----------------------------------------------------------------------------
#
# A child that `os.fork` makes inside a coroutine has a copy of the parent's event loop and tasks, on the same
# sockets. When it leaves by `SystemExit`, `asyncio.run` cancels the copies, and their clean-up would stop the
# parent's cameras. `multiprocessing` with its ``fork`` method does not unwind coroutines and is not affected.

_LOOPS: Final["WeakKeyDictionary[asyncio.AbstractEventLoop, int]"] = WeakKeyDictionary()
"""Process in which each event loop was first seen."""
_TASKS: Final["WeakSet[asyncio.Task[Any]]"] = WeakSet()
_ABANDONED: Final[list["asyncio.Task[Any]"]] = []
"""Tasks of the parent; dropping the last reference would run their ``finally`` blocks."""
_is_fork = False
"""True in a process that was forked from one with this module."""


def belongs_to_parent() -> bool:
    """Return whether the current coroutine was copied from a parent process by `os.fork`."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        # asyncio knows no running loop in a child until the child runs one itself. Anywhere else this is a
        # coroutine that a loop left behind and that is being deleted.
        return _is_fork
    pid = os.getpid()
    return _LOOPS.setdefault(loop, pid) != pid


def leave_child() -> NoReturn:
    """Continue to leave a forked child, in place of a clean-up of the parent's resources.

    `SystemExit`, also where `asyncio.run` cancels the child's copies of tasks because of it, ends the process
    here with its code: asyncio would go on to wait for threads that only the parent has. Any other
    exception is raised again.

    Raises:
        StateError: The child is not being left, but uses resources of the parent.
    """
    error = cause = sys.exc_info()[1]
    while cause is not None and not isinstance(cause, SystemExit):
        cause = cause.__context__
    if cause is not None:
        _exit(cause.code)
    if error is not None:
        raise error
    raise StateError("this process is a fork of the one that runs the event loop; use a new loop in it")


def _exit(code: object) -> NoReturn:
    """End the process as `SystemExit` with this code would."""
    status = code if isinstance(code, int) else int(code is not None)
    for stream in (sys.stdout, sys.stderr):
        # A stream may be None, closed, or not take what is still in its buffer.
        with suppress(AttributeError, OSError, ValueError):
            if stream is sys.stderr and not isinstance(code, int | None):
                stream.write(f"{code}\n")
            stream.flush()
    os._exit(status & 0xFF)


def _abandon() -> None:
    global _is_fork
    _is_fork = True
    for task in list(_TASKS):
        if not task.done():
            asyncio._unregister_task(task)
            _ABANDONED.append(task)
    _TASKS.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon)


# -- blocking work ------------------------------------------------------------------------------


@contextmanager
def thread_errors() -> Iterator[None]:
    """Turn the ``RuntimeError`` of a thread that cannot be started into `BusyError`.

    The executor may still run the work later; `in_thread` prevents that.

    Raises:
        BusyError: This computer, or this user, has the maximum number of threads.
    """
    try:
        yield
    except RuntimeError as error:
        if "start new thread" not in str(error):  # the message of CPython, which has no class for it
            raise
        raise BusyError(
            "this computer cannot start another thread; end other programs, or raise the limit of processes"
        ) from error


async def in_thread(function: Callable[[*Ts], T], *args: *Ts) -> "Future[T]":
    """Run a blocking function in the loop's own executor, once or not at all.

    A cancelled caller still waits for it, because a thread cannot be cancelled and must not be left behind
    with an open file or socket. The future returned is done, with the function's result or exception.

    Raises:
        BusyError: No thread can be started; the function was not and will not be called.
    """
    work: Future[T] = Future()
    # In the caller's context, as `asyncio.to_thread` does: see `asynccam.model.safe_files.confined`.
    call = partial(copy_context().run, partial(function, *args))

    def run() -> None:
        if work.set_running_or_notify_cancel():
            try:
                work.set_result(call())
            except BaseException as error:  # noqa: BLE001 - raised where it is awaited
                work.set_exception(error)

    try:
        with thread_errors():
            await finish(asyncio.get_running_loop().run_in_executor(None, run))
    except BusyError:
        # The executor keeps the work that it could not start a thread for; another of its threads may run it.
        if work.cancel():
            raise
        await finish(asyncio.wait({asyncio.wrap_future(work)}))
    return work
