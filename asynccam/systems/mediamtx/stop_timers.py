"""Timers for recordings that the client stops itself. See docs/protocols/mediamtx.md, "Timed recordings"."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from asynccam.errors import AsynccamError
from asynccam.runtime.tasks import TaskScope
from asynccam.runtime.timing import deadline

_LOG = logging.getLogger(__name__)
_FINAL_TIMEOUT: Final = 5.0
"""Seconds for all outstanding stops together when the client disconnects."""


class StopTimers:
    """One timer per camera; ``stop`` waits until the connection is restored and stops the recording."""

    def __init__(self, stop: Callable[[str], Awaitable[object]]) -> None:
        self._stop = stop
        self._scope = TaskScope("timed recordings")
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def stop_after(self, camera: str, seconds: float) -> None:
        """Stop a camera's recording after ``seconds``, replacing its timer."""
        self.cancel(camera)
        self._tasks[camera] = self._scope.spawn(self._run(camera, seconds), name=camera)

    def cancel(self, camera: str) -> None:
        """Cancel a camera's timer, unless it is this very timer that stops the recording."""
        task = self._tasks.get(camera)
        if task is not None and task is not asyncio.current_task():
            del self._tasks[camera]
            task.cancel()

    async def aclose(self) -> None:
        """Stop now what timers would stop later; may be called twice."""
        cameras = tuple(self._tasks)
        for camera in cameras:
            self.cancel(camera)
        await self._scope.aclose()
        async with TaskScope("final stops") as scope:
            await scope.gather(
                {camera: self._stop_within(camera, _FINAL_TIMEOUT) for camera in cameras}, name="stop"
            )
        self._scope = TaskScope("timed recordings")  # a closed client may connect again

    async def _run(self, camera: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._stop_within(camera, None)
        if self._tasks.get(camera) is asyncio.current_task():
            del self._tasks[camera]

    async def _stop_within(self, camera: str, seconds: float | None) -> None:
        try:
            async with deadline(seconds, f"end of the timed recording of {camera}"):
                await self._stop(camera)
        except AsynccamError as error:
            _LOG.error("the timed recording of %s was not stopped: %s", camera, error)
