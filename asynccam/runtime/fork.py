"""Protection of a parent's resources from a forked child: cameras that record, connections, processes.

A child that `os.fork` makes inside a coroutine has a copy of the parent's event loop and tasks, on the same
sockets. When it leaves by `SystemExit`, `asyncio.run` cancels the copies, and their clean-up would stop the
parent's cameras. `multiprocessing` with its ``fork`` method does not unwind coroutines and is not affected.
"""

import asyncio
import os
import sys
from contextlib import suppress
from typing import Any, Final, NoReturn
from weakref import WeakKeyDictionary, WeakSet

from asynccam.errors import StateError

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


def abandon_in_child(task: "asyncio.Task[Any]") -> None:
    """Prevent a forked child from cancelling its copy of this task when its event loop ends."""
    _LOOPS.setdefault(task.get_loop(), os.getpid())
    _TASKS.add(task)


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
