"""Blocking work in the loop's own executor, and the system's refusal to start another thread."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from typing import TypeVar, TypeVarTuple

from asynccam.errors import BusyError
from asynccam.runtime.tasks import finish

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


@contextmanager
def thread_errors() -> Iterator[None]:
    """Turn the ``RuntimeError`` of a thread that cannot be started into `BusyError`.

    The executor may do later what it had no thread for. Work for which that matters is done by `in_thread`.

    Raises:
        BusyError: This computer, or this user, has as many threads as it may.
    """
    try:
        yield
    except RuntimeError as error:
        if "start new thread" not in str(error):  # the words of CPython, which has no class for it
            raise
        raise BusyError(
            "this computer starts no further thread; end other programs, or raise the limit of processes"
        ) from error


async def in_thread(function: Callable[[*Ts], T], *args: *Ts) -> "Future[T]":
    """Run a blocking function in the loop's own executor, once or not at all.

    A cancelled caller still waits for it, for a thread cannot be called back and must not be left behind
    with an open file or socket.

    Returns:
        What came of it, an exception of its own too; it is done.

    Raises:
        BusyError: No thread can be started for it; nothing was done, and nothing will be.
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
        # The executor keeps what it could not start a thread for, and another thread of it may do it yet.
        if work.cancel():
            raise
        await finish(asyncio.wait({asyncio.wrap_future(work)}))
    return work
