"""Blocking work in the loop's own executor, and the system's refusal to start a thread."""

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
