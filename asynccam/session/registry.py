"""Who is in a Session: its cameras, which of them are away, and what is told of their coming and going."""

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
from asynccam.runtime.hub import EventHub
from asynccam.session.targets import CameraTarget, Unavailable
from asynccam.systems.registry import adapter_of
from asynccam.wall_clock import unix_now


class CameraRegistry:
    """The cameras of a Session and the places at which more are looked for; does no I/O.

    Args:
        events: Where news of cameras pass, and where it tells its own.
        emit: Tells an event in the session's name.

    Attributes:
        cameras: Every camera that was met, by id; those that are away stay.
        away: Who does not answer now: cameras by id, and by address the places nobody has answered at.
        places: The places that are looked at, by address.
    """

    def __init__(self, events: EventHub, emit: Callable[[Event], None]) -> None:
        self.cameras: dict[str, Camera] = {}
        self.away: dict[str, Unavailable] = {}
        self.places: dict[str, CameraTarget] = {}
        self._origin: dict[str, CameraTarget] = {}
        self._events = events
        self._emit = emit

    def present(self) -> list[Camera]:
        """The cameras that are not away."""
        return [camera for key, camera in self.cameras.items() if key not in self.away]

    def absent(self) -> dict[str, Unavailable]:
        """Who is away; a service only where none of its cameras was met, for they say it all."""
        return {key: away for key, away in self.away.items() if key in self.cameras or not self.behind(key)}

    def missing(self, key: str, away: Unavailable) -> MissingRecord:
        """One who is away, as a manifest has it."""
        camera = self.cameras.get(key)
        place = self._origin.get(key) or self.places.get(key)
        label = "" if place is None else place.label
        return MissingRecord(
            id="" if camera is None else key,
            name="" if camera is None else camera.info.name,
            label=label,
            address=away.address,
            since=Moment.of(away.since),
            reason="said goodbye" if away.error is None else str(away.error),
        )

    # -- by name ----------------------------------------------------------------------------------

    def named(self, name: str) -> Camera:
        """The camera with this id or label, or the only one of this name; see `Session.camera`."""
        labelled = next((place for place in self.places.values() if place.label == name), None)
        if name in self.cameras:
            return self.cameras[name]
        if labelled is not None:
            for key, place in self._origin.items():
                if place is labelled:
                    return self.cameras[key]
            absent = self.away.get(str(labelled.address))
            raise ConnectionError(f"{name}: {absent or f'{labelled.address} has not answered yet'}")
        found = [camera for camera in self.cameras.values() if camera.info.name == name]
        if len(found) != 1:
            raise UsageError(f"{len(found) or 'no'} cameras of the session are named {name!r}")
        return found[0]

    def group(self, name: str) -> list[Camera]:
        """The cameras of a group; see `Session.group`."""
        if not any(name in place.groups for place in self.places.values()):
            raise UsageError(f"the session has no group {name!r}")
        return [self.cameras[key] for key, place in self._origin.items() if name in place.groups]

    def labels(self) -> dict[str, str]:
        """Ids of cameras by label."""
        return {place.label: key for key, place in self._origin.items() if place.label}

    def place_of(self, camera: str) -> str:
        """Return the address that a camera was met at, as it was given; ``""`` for none."""
        place = self._origin.get(camera)
        return "" if place is None else str(place.address)

    # -- who comes and goes -------------------------------------------------------------------------

    def adopt(self, camera: Camera, place: CameraTarget | None = None) -> Camera:
        """Take a camera in, or let the one that is here already follow to where it is."""
        key = camera.id
        if key not in self.cameras:
            self.away.pop(key, None)
        held = self.cameras.setdefault(key, camera)
        if place is not None:
            self._origin[key] = place
            self.away.pop(str(place.address), None)
            self._events.forget(str(place.address))
        before = held.info.address
        if held is not camera:
            adapter_of(camera.info.system).follow(held, camera)
        # A service's client tells of its cameras by itself, and perhaps has done so already.
        if self._events.latest(CameraFound, key) is None:
            self._emit(CameraFound(camera=key, info=held.info))
        elif held.info.address != before:
            self._emit(CameraChanged(camera=key, info=held.info))
        return held

    def forget(self, key: str) -> None:
        """A camera, or a place, is the session's no more."""
        self.cameras.pop(key, None)
        self.places.pop(key, None)
        self.away.pop(key, None)
        place = self._origin.pop(key, None)
        if place is not None and not place.is_service:
            self.places.pop(str(place.address), None)
        self._events.forget(key)

    def heard(self, event: Event) -> bool:
        """Draw conclusions from an event that passes; whether the camera it is about has come back."""
        key = event.subject
        if key not in self.cameras:
            return False
        if isinstance(event, CameraLost):
            self._gone(key, None, "said goodbye")
        elif isinstance(event, CameraFound) and key in self.away:
            self.stands(key, CameraState.UNKNOWN, "found again")
            return True
        elif isinstance(event, CameraStateChanged):
            if event.state is not CameraState.UNAVAILABLE:
                self.away.pop(key, None)
            elif key not in self.away:
                self._gone(key, None, event.reason)
        return False

    # -- what tries have shown ------------------------------------------------------------------------

    def stands(self, key: str, state: CameraState, reason: str = "") -> None:
        """A camera is in this state, as it says itself."""
        if state is CameraState.UNAVAILABLE:
            self._gone(key, None, reason)
            return
        self.away.pop(key, None)
        self._tell(key, state, reason)

    def expect(self, key: str) -> None:
        """A camera, or a place, is to answer; until it does it is away, which is not told as news yet."""
        if key not in self.cameras and key not in self.away:
            self.away[key] = Unavailable(key, unix_now())

    def expect_only(self, service: CameraTarget, ids: Collection[str]) -> None:
        """These cameras behind a service are to answer, and no others that were never met."""
        for key in list(self.away):
            never_met = key not in self.cameras and key not in self.places
            if never_met and key not in ids and self.service_of(key) is service:
                del self.away[key]
                self._events.forget(key)
        for key in ids:
            self.expect(key)

    def unanswered(self, key: str, error: Exception) -> None:
        """A camera, or a place, that is still to answer has not done so up to now."""
        before = self.away.get(key)
        if before is not None and before.error is None and not before.tries:
            self._gone(key, error, str(error))

    def answered(self, key: str) -> None:
        """A place has been reached."""
        if self.away.pop(key, None) is not None:
            self._tell(key, CameraState.READY, "reached")

    def failed(self, key: str, error: Exception) -> None:
        """A camera, or a place, did not answer; anything but mere absence is told as a failure as well."""
        before = self.away.get(key)
        tries = before.tries if before is not None else 0
        new = before is None or str(before.error) != str(error)
        self._gone(key, error, str(error), tries + 1)
        if new and not isinstance(error, (RetryableError, NotFoundError)):
            self._emit(CameraFailed(camera=key, step="connect", error=error))

    def refused(self, key: str, error: Exception) -> None:
        """Another device has announced itself with the id of a camera, which stays what it is."""
        self._emit(CameraFailed(camera=key, step="connect", error=error))

    def _gone(self, key: str, error: Exception | None, reason: str, tries: int = 0) -> None:
        before = self.away.get(key)
        camera = self.cameras.get(key)
        address = key if camera is None else camera.info.address
        self.away[key] = Unavailable(address, unix_now() if before is None else before.since, error, tries)
        self._tell(key, CameraState.UNAVAILABLE, reason)

    def _tell(self, key: str, state: CameraState, reason: str) -> None:
        known = self._events.latest(CameraStateChanged, key)
        previous = CameraState.UNKNOWN if known is None else known.state
        if state is not previous:
            self._emit(CameraStateChanged(camera=key, state=state, previous=previous, reason=reason))

    def behind(self, service: str) -> list[str]:
        """Ids of the cameras that were met and are behind a service."""
        return [key for key in self.cameras if key.startswith(f"{service}/")]

    # -- where ------------------------------------------------------------------------------------

    def service_of(self, camera: str) -> CameraTarget | None:
        """The service among the places that a camera of this id is behind."""
        place = self.places.get(camera.rpartition("/")[0])
        return place if place is not None and place.is_service else None

    def place_at(self, address: str) -> CameraTarget | None:
        """The place with this address, whether it names the camera there or not."""
        try:
            place = Address.parse(address)
        except UsageError:
            return None
        return self.places.get(address) or self.places.get(str(place.with_camera("")))
