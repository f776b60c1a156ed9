"""Recordings the client has promised to stop by hand. See docs/protocols/mediamtx.md, "Timed recordings"."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from asynccam.errors import AsynccamError
from asynccam.runtime.tasks import TaskScope
from asynccam.runtime.timing import deadline

_LOG = logging.getLogger(__name__)
_FAREWELL: Final = 5.0
"""Seconds the stops still owed may take together when the client leaves."""


class TimedStops:
    """One timer a camera.

    Args:
        stop: Stops a camera's recording, waiting out a lost connection first.
    """

    def __init__(self, stop: Callable[[str], Awaitable[object]]) -> None:
        self._stop = stop
        self._scope = TaskScope("timed recordings")
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def owed(self) -> frozenset[str]:
        """Cameras whose stop is still to come."""
        return frozenset(self._tasks)

    def stop_after(self, camera: str, seconds: float) -> None:
        """Stop a camera's recording after a while."""
        self.cancel(camera)
        self._tasks[camera] = self._scope.spawn(self._run(camera, seconds), name=camera)

    def cancel(self, camera: str) -> None:
        """Forget the stop of a camera: somebody stops it by hand, or this very timer does."""
        task = self._tasks.get(camera)
        if task is not None and task is not asyncio.current_task():
            del self._tasks[camera]
            task.cancel()

    async def aclose(self) -> None:
        """Stop at once what is still owed; harmless when called twice."""
        owed = tuple(self._tasks)
        for camera in owed:
            self.cancel(camera)
        await self._scope.aclose()
        async with TaskScope("timed recordings, farewell") as scope:
            await scope.gather({camera: self._try(camera, _FAREWELL) for camera in owed}, name="stop")
        self._scope = TaskScope("timed recordings")

    async def _run(self, camera: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._try(camera, None)
        if self._tasks.get(camera) is asyncio.current_task():
            del self._tasks[camera]

    async def _try(self, camera: str, seconds: float | None) -> None:
        try:
            async with deadline(seconds, f"end of the timed recording of {camera}"):
                await self._stop(camera)
        except AsynccamError as error:
            _LOG.error("the timed recording of %s was not stopped: %s", camera, error)
