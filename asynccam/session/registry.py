"""Registry of a Session: its cameras, which are unavailable, and the events that report changes. No I/O."""

from collections.abc import Callable, Collection

from asynccam.errors import ConnectionError, NotFoundError, RetryableError, UsageError
from asynccam.model.address import Address
from asynccam.model.camera import Camera
from asynccam.model.events import (
    CameraChanged,
    CameraFailed,
    CameraFound,
    CameraLost,
    CameraStateChanged,
    Event,
)
from asynccam.model.info import CameraState
from asynccam.model.manifest import MissingRecord, Moment
from asynccam.runtime.event_hub import EventHub
from asynccam.session.targets import CameraTarget, Unavailable
from asynccam.systems.registry import adapter_of
from asynccam.wall_clock import unix_now


class CameraRegistry:
    """Cameras of a Session, and the targets at which more may be.

    A *key* is a camera's id, or the address of a target at which no camera has answered yet.

    Args:
        events: Remembers the latest events of cameras.
        emit: Emits an event in the session's name.
    """

    def __init__(self, events: EventHub, emit: Callable[[Event], None]) -> None:
        self.cameras: dict[str, Camera] = {}  # every camera that has answered, by id; unavailable ones stay
        self.unavailable: dict[str, Unavailable] = {}  # by key
        self.targets: dict[str, CameraTarget] = {}  # by address
        self._target_of: dict[str, CameraTarget] = {}  # by camera id
        self._events = events
        self._emit = emit

    # -- queries ----------------------------------------------------------------------------------

    def available(self) -> list[Camera]:
        """Return the cameras that are not unavailable."""
        return [camera for key, camera in self.cameras.items() if key not in self.unavailable]

    def missing(self) -> dict[str, Unavailable]:
        """Return what a take of all cameras misses; a service only if none of its cameras is known."""
        return {
            key: unavailable
            for key, unavailable in self.unavailable.items()
            if key in self.cameras or not self.cameras_behind(key)
        }

    def missing_record(self, key: str, unavailable: Unavailable) -> MissingRecord:
        """Return an unavailable camera as a manifest has it."""
        camera = self.cameras.get(key)
        target = self._target_of.get(key) or self.targets.get(key)
        return MissingRecord(
            id="" if camera is None else key,
            name="" if camera is None else camera.info.name,
            label="" if target is None else target.label,
            address=unavailable.address,
            since=Moment.of(unavailable.since),
            reason="said goodbye" if unavailable.error is None else str(unavailable.error),
        )

    def camera(self, name: str) -> Camera:
        """Return the camera with this id or label, or the only one of this name; see `Session.camera`."""
        if name in self.cameras:
            return self.cameras[name]
        labelled = next((target for target in self.targets.values() if target.label == name), None)
        if labelled is not None:
            for key, target in self._target_of.items():
                if target is labelled:
                    return self.cameras[key]
            unavailable = self.unavailable.get(str(labelled.address))
            raise ConnectionError(f"{name}: {unavailable or f'{labelled.address} has not answered yet'}")
        found = [camera for camera in self.cameras.values() if camera.info.name == name]
        if len(found) != 1:
            raise UsageError(f"{len(found) or 'no'} cameras of the session are named {name!r}")
        return found[0]

    def group(self, name: str) -> list[Camera]:
        """Return the cameras of a group; see `Session.group`."""
        if not any(name in target.groups for target in self.targets.values()):
            raise UsageError(f"the session has no group {name!r}")
        return [self.cameras[key] for key, target in self._target_of.items() if name in target.groups]

    def labels(self) -> dict[str, str]:
        """Return the ids of cameras by label."""
        return {target.label: key for key, target in self._target_of.items() if target.label}

    def target_address(self, camera: str) -> str:
        """Return the address of the target at which a camera answered, as it was given, or ``""``."""
        target = self._target_of.get(camera)
        return "" if target is None else str(target.address)

    def target_at(self, address: str) -> CameraTarget | None:
        """Return the target with an address, whether or not it names the camera there."""
        try:
            parsed = Address.parse(address)
        except UsageError:
            return None
        return self.targets.get(address) or self.targets.get(str(parsed.with_camera("")))

    def service_target(self, camera: str) -> CameraTarget | None:
        """Return the target of the service that a camera of this id is behind."""
        target = self.targets.get(camera.rpartition("/")[0])
        return target if target is not None and target.is_service else None

    def cameras_behind(self, service: str) -> list[str]:
        """Return the ids of the known cameras behind a service."""
        return [key for key in self.cameras if key.startswith(f"{service}/")]

    # -- changes ----------------------------------------------------------------------------------

    def adopt(self, camera: Camera, target: CameraTarget | None = None) -> Camera:
        """Add a camera, or let the one that is known already follow to its address; return the known one."""
        key = camera.id
        if key not in self.cameras:
            self.unavailable.pop(key, None)
        known = self.cameras.setdefault(key, camera)
        if target is not None:
            self._target_of[key] = target
            self.unavailable.pop(str(target.address), None)
            self._events.forget(str(target.address))
        before = known.info.address
        if known is not camera:
            adapter_of(camera.info.system).follow(known, camera)
        # The client of a service reports its cameras by itself, and perhaps has done so already.
        if self._events.latest(CameraFound, key) is None:
            self._emit(CameraFound(camera=key, info=known.info))
        elif known.info.address != before:
            self._emit(CameraChanged(camera=key, info=known.info))
        return known

    def forget(self, key: str) -> None:
        """Remove a camera or a target."""
        self.cameras.pop(key, None)
        self.targets.pop(key, None)
        self.unavailable.pop(key, None)
        target = self._target_of.pop(key, None)
        if target is not None and not target.is_service:
            self.targets.pop(str(target.address), None)
        self._events.forget(key)

    def on_event(self, event: Event) -> bool:
        """Update the state of the event's camera; return whether an unavailable one was found again."""
        key = event.subject
        if key not in self.cameras:
            return False
        if isinstance(event, CameraLost):
            self._mark_unavailable(key, None, "said goodbye")
        elif isinstance(event, CameraFound) and key in self.unavailable:
            self.set_state(key, CameraState.UNKNOWN, "found again")
            return True
        elif isinstance(event, CameraStateChanged):
            if event.state is not CameraState.UNAVAILABLE:
                self.unavailable.pop(key, None)
            elif key not in self.unavailable:
                self._mark_unavailable(key, None, event.reason)
        return False

    def set_state(self, key: str, state: CameraState, reason: str = "") -> None:
        """Note the state that a camera has answered with."""
        if state is CameraState.UNAVAILABLE:
            self._mark_unavailable(key, None, reason)
        else:
            self.unavailable.pop(key, None)
            self._emit_state(key, state, reason)

    def expect(self, key: str) -> None:
        """Mark what has not answered yet as unavailable, without an event."""
        if key not in self.cameras and key not in self.unavailable:
            self.unavailable[key] = Unavailable(key, unix_now())

    def expect_behind(self, service: CameraTarget, ids: Collection[str]) -> None:
        """Expect these cameras behind a service, and no others that have never answered."""
        for key in list(self.unavailable):
            never_answered = key not in self.cameras and key not in self.targets
            if never_answered and key not in ids and self.service_target(key) is service:
                del self.unavailable[key]
                self._events.forget(key)
        for key in ids:
            self.expect(key)

    def mark_unanswered(self, key: str, error: Exception) -> None:
        """Report that what is expected has not answered up to now, if no try has ended yet."""
        before = self.unavailable.get(key)
        if before is not None and before.error is None and not before.tries:
            self._mark_unavailable(key, error, str(error))

    def mark_reached(self, key: str) -> None:
        """Note that a target has answered."""
        if self.unavailable.pop(key, None) is not None:
            self._emit_state(key, CameraState.READY, "reached")

    def mark_failed(self, key: str, error: Exception) -> None:
        """Note a failed try. A new error that is more than an unavailable peer is a `CameraFailed`, too."""
        before = self.unavailable.get(key)
        tries = before.tries if before is not None else 0
        new = before is None or str(before.error) != str(error)
        self._mark_unavailable(key, error, str(error), tries + 1)
        if new and not isinstance(error, (RetryableError, NotFoundError)):
            self._emit(CameraFailed(camera=key, step="connect", error=error))

    def _mark_unavailable(self, key: str, error: Exception | None, reason: str, tries: int = 0) -> None:
        before = self.unavailable.get(key)
        camera = self.cameras.get(key)
        address = key if camera is None else camera.info.address
        since = unix_now() if before is None else before.since
        self.unavailable[key] = Unavailable(address, since, error, tries)
        self._emit_state(key, CameraState.UNAVAILABLE, reason)

    def _emit_state(self, key: str, state: CameraState, reason: str) -> None:
        latest = self._events.latest(CameraStateChanged, key)
        previous = CameraState.UNKNOWN if latest is None else latest.state
        if state is not previous:
            self._emit(CameraStateChanged(camera=key, state=state, previous=previous, reason=reason))
