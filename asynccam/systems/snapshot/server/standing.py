"""Where each camera stands, and telling everybody."""

from dataclasses import dataclass

from asynccam.runtime.event_hub import EventHub
from asynccam.systems.snapshot.server.events import CaptureDone, CaptureFailed, CaptureQueued, CaptureStarted
from asynccam.systems.snapshot.server.index import StoredSnapshot
from asynccam.systems.snapshot.server.models import CaptureState, Phase, Shot


@dataclass(slots=True)
class _Standing:
    waiting: int = 0
    capturing: int = 0
    error: str | None = None


class Standings:
    """Counts what each camera does.

    Args:
        events: Where it is told.
    """

    def __init__(self, events: EventHub) -> None:
        self._events = events
        self._of: dict[str, _Standing] = {}

    def names(self) -> tuple[str, ...]:
        """Cameras that did something."""
        return tuple(self._of)

    def forget(self, camera: str) -> None:
        """A camera is no more; what it still does is counted to its end."""
        standing = self._of.get(camera)
        if standing is not None and not standing.waiting and not standing.capturing:
            del self._of[camera]

    def state_of(self, camera: str, newest: StoredSnapshot | None) -> CaptureState:
        """What to say of a camera."""
        standing = self._of.get(camera) or _Standing()
        if standing.capturing:
            phase = Phase.CAPTURING
        elif standing.waiting:
            phase = Phase.WAITING
        else:
            phase = Phase.IDLE if standing.error is None else Phase.FAILED
        if newest is None:
            return CaptureState(phase, error=standing.error)
        return CaptureState(phase, newest.filename, newest.taken_at, standing.error)

    def watch(self, camera: str) -> "Watched":
        """Follow one capture; it waits from now on."""
        return Watched(self._events, camera, self._of.setdefault(camera, _Standing()))


class Watched:
    """One capture on its way: queued, started, and done or failed."""

    def __init__(self, events: EventHub, camera: str, standing: _Standing) -> None:
        self._events = events
        self._camera = camera
        self._standing = standing
        self._started = False
        self._ended = False
        standing.waiting += 1
        events.emit(CaptureQueued(camera=camera))

    def started(self) -> None:
        """The device is being read."""
        self._started = True
        self._standing.waiting -= 1
        self._standing.capturing += 1
        self._events.emit(CaptureStarted(camera=self._camera))

    def done(self, shot: Shot) -> None:
        """There is a picture."""
        if self._end():
            self._standing.error = None
            self._events.emit(CaptureDone(camera=self._camera, shot=shot))

    def failed(self, error: str) -> None:
        """There is none."""
        if self._end():
            self._standing.error = error
            self._events.emit(CaptureFailed(camera=self._camera, error=error))

    def _end(self) -> bool:
        if self._ended:
            return False
        self._ended = True
        if self._started:
            self._standing.capturing -= 1
        else:
            self._standing.waiting -= 1
        return True
