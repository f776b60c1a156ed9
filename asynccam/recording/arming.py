"""The wait between a recorder's `arm` and its `start`."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from asynccam.errors import RecordingError
from asynccam.recording.process import LaunchProcess
from asynccam.recording.process_run import Run
from asynccam.runtime.tasks import Ready


class Arming:
    """One recording's wait for its start.

    Args:
        name: What the recorder is called.
        ready: Told when the start can be let go.

    Attributes:
        armed: Whether the start can be let go.
        began: Told the time of the first frame.
    """

    def __init__(self, name: str, ready: Ready[None]) -> None:
        loop = asyncio.get_running_loop()
        self.armed = False
        self._name = name
        self._ready = ready
        self._first: asyncio.Future[float] = loop.create_future()
        self._let_go: asyncio.Future[float] = loop.create_future()
        self.began = Ready(self._first)

    @property
    def waiting(self) -> bool:
        """Whether nobody has let the start go."""
        return not self._let_go.done()

    async def start(self, timeout: float, over: "asyncio.Future[None]") -> float | None:
        """Let the start go; the time of the first frame, or None if the recording is over without one.

        Args:
            timeout: Seconds the first frame may take.
            over: Done when the recording is.
        """
        self._let_go.set_result(timeout)
        signs: set[asyncio.Future[Any]] = {self._first, over}
        await asyncio.wait(signs, return_when=asyncio.FIRST_COMPLETED)
        return self._first.result() if self._first.done() else None

    async def hold(
        self,
        run: Run,
        launch: Callable[[], Awaitable[LaunchProcess]],
        stop: "asyncio.Future[None]",
        timeout: float,
        on_armed: Callable[[], None],
    ) -> tuple[LaunchProcess, float]:
        """Start a run's process, and hold its first frame back until the start is let go.

        Args:
            run: The run; the process of one that cannot be held back is started when the start is let go.
            launch: Starts the process.
            stop: Done when there will be no start.
            timeout: Seconds until the source gives frames.
            on_armed: Called when the start can be let go.

        Returns:
            The process, and the seconds that the first frame may take from here: none if it has ended.

        Raises:
            RecordingError: It was stopped, or the process cannot be started.
            TimeoutError: The source gives no frames.
        """
        process = await launch() if run.held else None
        ends: set[asyncio.Future[Any]] = {stop} if process is None else {stop, process.exited}
        if process is not None:
            await asyncio.wait({run.ready, *ends}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if process.exited.done():
                return process, 0.0
            if not run.ready.done() and not stop.done():
                raise run.no_frame(self._name, timeout)
        if not stop.done():
            self.armed = True
            on_armed()
            self._ready(None)
        await asyncio.wait({self._let_go, *ends}, return_when=asyncio.FIRST_COMPLETED)
        if stop.done():
            raise RecordingError(f"{self._name}: stopped before the first frame")
        if process is None:
            return await launch(), self._let_go.result()
        if not self._let_go.done():
            return process, 0.0
        await asyncio.wait(ends, timeout=run.backlog, return_when=asyncio.FIRST_COMPLETED)
        run.release()
        return process, self._let_go.result()
