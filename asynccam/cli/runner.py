"""Runs a command's coroutine: the event loop, the signals, and what an error means to the shell."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Final, NoReturn

import typer

from asynccam.cli.errors import ExitCode, exit_code
from asynccam.cli.output import Output
from asynccam.errors import StorageError
from asynccam.runtime.tasks import TaskScope

Main = Callable[[], Coroutine[Any, Any, ExitCode]]

_SHOW_CURSOR: Final = "\x1b[?25h"
_ABORT_WITHIN: Final = 4.0
"""Seconds after the second signal at which the process ends, whatever a take still has to write."""

_ABORTS: Final[list[Callable[[], Awaitable[None]]]] = []


@contextmanager
def second_signal(abort: Callable[[], Awaitable[None]]) -> Iterator[None]:
    """For the block, have the second signal do something before the process ends.

    Args:
        abort: Begins it, and returns what is awaited for its end.
    """
    _ABORTS.append(abort)
    try:
        yield
    finally:
        _ABORTS.remove(abort)


def execute(
    command: str,
    main: Main,
    output: Output,
    *,
    terminated: ExitCode = ExitCode.TERMINATED,
    within: float | None = None,
) -> None:
    """Run a command to its end and leave with its exit code.

    The first SIGINT or SIGTERM cancels the command, which then tidies up: a take stops its cameras
    and brings their files home. The second leaves at once; a take only writes down what it gave up,
    so that it can be resumed. The third does not wait for that.

    Args:
        command: The command's name, for error lines.
        main: The command.
        output: Where it talks.
        terminated: The exit code after SIGTERM; a server that is told to end has not failed.
        within: Seconds after the first signal at which the process leaves whatever it does then; None to wait
            for the command's own end.

    Raises:
        typer.Exit: Always, with the exit code.
    """
    output.set_up_logging()
    signals = _Signals(output, terminated, within)
    try:
        code = asyncio.run(signals.watch(main()))
    except (asyncio.CancelledError, KeyboardInterrupt):
        code = signals.code
    except BrokenPipeError:
        code = _broken_pipe()
    except Exception as error:  # noqa: BLE001 - the outermost place: every error becomes a line and a code
        output.failure(command, error)
        code = exit_code(error)
    raise typer.Exit(signals.code if signals.received else code)


class _Signals:
    """Turns the first signal into a cancellation and the second into an exit, with takes aborted first."""

    def __init__(self, output: Output, terminated: ExitCode, within: float | None) -> None:
        self._output = output
        self._within = within
        self._codes = {signal.SIGINT: ExitCode.INTERRUPTED, signal.SIGTERM: terminated}
        self._task: asyncio.Task[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._aborting = TaskScope("second signal")
        self._aborted = False
        self.received = False
        self.code = ExitCode.INTERRUPTED

    async def watch(self, main: Coroutine[Any, Any, ExitCode]) -> ExitCode:
        """Run ``main`` in this task with the signals handled."""
        self._task = asyncio.current_task()
        loop = self._loop = asyncio.get_running_loop()
        for number in self._codes:
            # Not every platform's loop has this; asyncio.run then still cancels at the first Ctrl-C.
            with suppress(NotImplementedError):
                loop.add_signal_handler(number, self._on_signal, number)
        return await main

    def _on_signal(self, number: signal.Signals) -> None:
        if self.received:
            return  # `_on_second` has heard it as well
        self.received = True
        self.code = self._codes[number]
        if self._output.animate:
            self._output.stderr.print("Stopping; once more to leave at once.", style="busy")
        if self._task is not None:
            self._task.cancel()
        if self._within is not None and hasattr(signal, "setitimer"):
            # Not a timer of the loop: a thread that connects, or a blocked loop, must not hold it up.
            signal.signal(signal.SIGALRM, lambda number, frame: _leave_at_once(self._output, self.code))
            signal.setitimer(signal.ITIMER_REAL, self._within)
        # From here on even a loop that is kept busy must not hold up the second signal.
        for one in self._codes:
            signal.signal(one, self._on_second)

    def _on_second(self, number: int, frame: FrameType | None) -> None:
        if self._aborted or self._loop is None or not (_ABORTS and hasattr(signal, "setitimer")):
            _leave_at_once(self._output, self.code)
        self._aborted = True
        self._output.mute()
        # Not a timer of the loop, which may be blocked.
        signal.signal(signal.SIGALRM, self._on_second)
        signal.setitimer(signal.ITIMER_REAL, _ABORT_WITHIN)
        self._loop.call_soon_threadsafe(self._abort)

    def _abort(self) -> None:
        self._aborting.spawn(self._abort_and_leave([abort() for abort in _ABORTS]), name="abort")

    async def _abort_and_leave(self, endings: Sequence[Awaitable[None]]) -> None:
        try:
            for ending in endings:
                with suppress(StorageError):  # what was written before has to do
                    await ending
        finally:
            _leave_at_once(self._output, self.code)


def _leave_at_once(output: Output, code: ExitCode) -> NoReturn:
    """End the process without any clean-up but the terminal's cursor."""
    if output.animate:
        os.write(sys.stderr.fileno(), f"{_SHOW_CURSOR}\n".encode())
    os._exit(code)


def _broken_pipe() -> ExitCode:
    """Whoever read stdout has gone: say nothing more to it, not even at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.BROKEN_PIPE
