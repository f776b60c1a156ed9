"""The takes of a Session: which cameras they hold, what they tell, how they end with it."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from asynccam.model.camera import Camera
from asynccam.model.events import Event, RecordingStarted, RecordingStopped
from asynccam.model.manifest import MissingRecord
from asynccam.runtime.hub import EventHub
from asynccam.take import FileCheck, Take, TakeLimits, TakeState, TimeServer


class Takes:
    """Makes takes, and keeps those that have not ended.

    Args:
        events: Where cameras' own clients tell what they do.
        emit: Tells an event in the session's name.
        time_server: Reference for T0, or None for this computer's clock.
    """

    def __init__(
        self, events: EventHub, emit: Callable[[Event], None], time_server: TimeServer | None
    ) -> None:
        self._events = events
        self._emit = emit
        self._time_server = time_server
        self._running: list[tuple[Take, frozenset[str]]] = []
        self._told: dict[str, Event] = {}

    def new(
        self,
        cameras: Sequence[Camera],
        directory: str | Path,
        *,
        name: str | None,
        limits: TakeLimits | None,
        verify: FileCheck | None,
        labels: Mapping[str, str],
        missing: Sequence[MissingRecord],
    ) -> Take:
        """A take; raises as `Session.new_take`."""
        take = Take(
            cameras,
            directory,
            name=name,
            limits=limits,
            time_server=self._time_server,
            verify=verify,
            emit=self._tell,
            labels=labels,
            missing=missing,
        )
        self._running = [one for one in self._running if one[0].state is not TakeState.DONE]
        self._running.append((take, frozenset(camera.id for camera in cameras)))
        return take

    def holder(self, camera: str) -> Take | None:
        """Return the take that has begun and not ended and has this camera, or None."""
        idle = (TakeState.NEW, TakeState.DONE)
        holders = (take for take, ids in self._running if camera in ids and take.state not in idle)
        return next(holders, None)

    def endings(self, timeout: float, grace: float) -> dict[str, Coroutine[Any, Any, None]]:
        """What winds up each take, within so many seconds; one that takes longer by the grace is aborted."""
        return {
            f"take {number} {take.name}": _end(take, timeout, grace)
            for number, (take, _) in enumerate(self._running, 1)
        }

    def _tell(self, event: Event) -> None:
        """Hand on what a take tells, but for what the camera's own client has told before it.

        A client of a service hears of its recordings by itself, whoever started them, and tells so
        before its answer to a start or a stop comes back. Most devices never say anything.
        """
        if isinstance(event, (RecordingStarted, RecordingStopped)):
            latest = self._events.latest(type(event), event.camera)
            if latest is not None and latest is not self._told.get(event.camera):
                return
            self._told[event.camera] = event
        self._emit(event)


async def _end(take: Take, timeout: float, grace: float) -> None:
    late = asyncio.get_running_loop().call_later(timeout + grace, take.abort)
    try:
        await take.aclose(timeout=timeout)
    finally:
        late.cancel()
