"""Run a command's coroutine: event loop, signals, exit codes."""

import asyncio
import inspect
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial, wraps
from types import FrameType
from typing import Any, Final, NoReturn

import typer

from asynccam.cli.errors import ExitCode, exit_code
from asynccam.cli.options import ApiKeyOption, JsonOption, TokenOption, VerboseOption
from asynccam.cli.output import Output
from asynccam.errors import StorageError
from asynccam.model.credentials import Credentials
from asynccam.runtime.tasks import TaskScope

CommandFunction = Callable[..., Coroutine[Any, Any, ExitCode]]

_SHOW_CURSOR: Final = "\x1b[?25h"
_ABORT_TIMEOUT: Final = 4.0
"""Seconds after the second signal at which the process ends, whatever a take still has to write."""

_ABORTS: Final[list[Callable[[], Awaitable[None]]]] = []


@contextmanager
def abort_on_second_signal(abort: Callable[[], Awaitable[None]]) -> Iterator[None]:
    """Call ``abort`` at the second signal, and await what it returns before the process ends."""
    _ABORTS.append(abort)
    try:
        yield
    finally:
        _ABORTS.remove(abort)


def command(
    name: str, *, terminated: ExitCode = ExitCode.TERMINATED, within: float | None = None
) -> Callable[[CommandFunction], Callable[..., None]]:
    """Make a coroutine function a Typer command that runs with `execute`.

    Its argument ``output`` becomes the options ``--json`` and ``--verbose``. An argument ``credentials``
    becomes ``--token`` and ``--api-key``.
    """

    def decorate(function: CommandFunction) -> Callable[..., None]:
        own = inspect.signature(function).parameters
        replaced: dict[str, list[tuple[str, Any, Any]]] = {
            "credentials": [("token", TokenOption, None), ("api_key", ApiKeyOption, None)],
            "output": [("json", JsonOption, False), ("verbose", VerboseOption, False)],
        }
        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters = [own[key].replace(kind=keyword) for key in own if key not in replaced]
        for key in [key for key in replaced if key in own]:
            parameters += [
                inspect.Parameter(option, keyword, annotation=annotation, default=default)
                for option, annotation, default in replaced[key]
            ]

        @wraps(function)
        def run(**arguments: Any) -> None:
            output = Output(json=arguments.pop("json"), verbose=arguments.pop("verbose"))
            if "credentials" in own:
                token, api_key = arguments.pop("token"), arguments.pop("api_key")
                arguments["credentials"] = Credentials(token, api_key) if token or api_key else None
            main = partial(function, output=output, **arguments)
            execute(name, main, output, terminated=terminated, within=within)

        # Typer reads both: the signature for names and defaults, the annotations for types.
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def execute(
    command: str,
    main: Callable[[], Coroutine[Any, Any, ExitCode]],
    output: Output,
    *,
    terminated: ExitCode = ExitCode.TERMINATED,
    within: float | None = None,
) -> None:
    """Run a command to its end and exit with its code.

    The first SIGINT or SIGTERM cancels the command: a take stops its cameras and downloads their files. The
    second exits at once; a take only records what it gave up, so that it can be resumed. The third does not
    wait for that. ``within`` seconds after the first signal the process exits in any case, if that is given.

    ``command`` is the name for error lines. ``terminated`` is the exit code after SIGTERM; 0 for a server,
    which SIGTERM ends normally.
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
        output.print_failure(command, error)
        code = exit_code(error)
    raise typer.Exit(signals.code if signals.received else code)


class _Signals:
    """Signal handling: the first signal cancels, the second aborts takes and exits."""

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
        """Run ``main`` in this task with signals handled."""
        self._task = asyncio.current_task()
        loop = self._loop = asyncio.get_running_loop()
        for signum in self._codes:
            # Not every platform's loop has this; asyncio.run then still cancels at the first Ctrl-C.
            with suppress(NotImplementedError):
                loop.add_signal_handler(signum, self._on_signal, signum)
        return await main

    def _on_signal(self, signum: signal.Signals) -> None:
        if self.received:
            return  # `_on_second` has heard it as well
        self.received = True
        self.code = self._codes[signum]
        if self._output.animate:
            self._output.stderr.print("Stopping; once more to leave at once.", style="busy")
        if self._task is not None:
            self._task.cancel()
        if self._within is not None and hasattr(signal, "setitimer"):
            # Not a timer of the loop: a thread that connects, or a blocked loop, must not hold it up.
            signal.signal(signal.SIGALRM, lambda signum, frame: _exit_now(self._output, self.code))
            signal.setitimer(signal.ITIMER_REAL, self._within)
        # From here on even a loop that is kept busy must not hold up the second signal.
        for signum in self._codes:
            signal.signal(signum, self._on_second)

    def _on_second(self, signum: int, frame: FrameType | None) -> None:
        if self._aborted or self._loop is None or not (_ABORTS and hasattr(signal, "setitimer")):
            _exit_now(self._output, self.code)
        self._aborted = True
        self._output.mute()
        # Not a timer of the loop, which may be blocked.
        signal.signal(signal.SIGALRM, self._on_second)
        signal.setitimer(signal.ITIMER_REAL, _ABORT_TIMEOUT)
        self._loop.call_soon_threadsafe(self._abort)

    def _abort(self) -> None:
        self._aborting.spawn(self._abort_and_leave([abort() for abort in _ABORTS]), name="abort")

    async def _abort_and_leave(self, endings: Sequence[Awaitable[None]]) -> None:
        try:
            for ending in endings:
                with suppress(StorageError):  # what was written before has to do
                    await ending
        finally:
            _exit_now(self._output, self.code)


def _exit_now(output: Output, code: ExitCode) -> NoReturn:
    """End the process at once; only restore the terminal's cursor."""
    if output.animate:
        os.write(sys.stderr.fileno(), f"{_SHOW_CURSOR}\n".encode())
    os._exit(code)


def _broken_pipe() -> ExitCode:
    """Discard further output: the reader of stdout has closed the pipe."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.BROKEN_PIPE
