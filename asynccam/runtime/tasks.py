"""Owned tasks: the only module of asynccam that creates any.

Every task has a name and an owner, whose `aclose` cancels and awaits it. A failing task is reported once, to
the owner's ``on_failure``.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine, Hashable, Mapping
from typing import Any, Generic, TypeVar

from asynccam.errors import StateError, TimeoutError
from asynccam.runtime.fork import abandon_in_child, belongs_to_parent, leave_child
from asynccam.runtime.timing import deadline

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

_LOG = logging.getLogger(__name__)

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
        self._closed = False

    @property
    def tasks(self) -> frozenset["asyncio.Task[Any]"]:
        """Tasks that are still running."""
        return frozenset(self._tasks)

    @property
    def closed(self) -> bool:
        """Return whether `aclose` was called: no task is created any longer."""
        return self._closed

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

        Cancelling the caller cancels every job and waits for them.
        """
        tasks: dict[K, asyncio.Task[T]] = {}
        try:
            for key, job in jobs.items():
                tasks[key] = self._create(job, f"{name}[{key}]")
            if tasks:
                await asyncio.wait(tasks.values())
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

    async def aclose(self, *, timeout: float = 10.0) -> None:
        """Cancel every task and wait for it; harmless when called twice.

        Raises:
            TimeoutError: A task did not end within ``timeout`` seconds after its cancellation.
        """
        self._closed = True
        current = asyncio.current_task()
        await _reap({task for task in self._tasks if task is not current}, timeout)

    async def __aenter__(self) -> "TaskScope":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _create(self, coroutine: Coroutine[Any, Any, T], name: str) -> "asyncio.Task[T]":
        if self._closed:
            coroutine.close()
            raise StateError(f"{self.name} is closed and runs no further task ({name})")
        task = asyncio.get_running_loop().create_task(coroutine, name=f"{self.name}:{name}")
        self._tasks.add(task)
        abandon_in_child(task)
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
