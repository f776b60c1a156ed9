"""What is known of a service's cameras, recordings and files, from answers and notifications alike.

A recording is told of twice, by a notification and by an answer, in either order; what all systems
share (`RecordingStarted` and its like) is told once.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, Final

from asynccam.model import info as model
from asynccam.model.address import Address
from asynccam.model.events import (
    CameraFound,
    CameraLost,
    CameraStateChanged,
    Event,
    MissedEvents,
    RecordingStarted,
    RecordingStopped,
)
from asynccam.model.identity import identifying_facts
from asynccam.model.info import CameraState
from asynccam.systems.mediamtx.models import Answer, CameraInfo, FileInfo, RecordingInfo
from asynccam.wall_clock import WALL_CLOCK

_STATES: Final = {
    "CONNECTED": CameraState.READY,
    "READY": CameraState.READY,
    "ONLINE": CameraState.READY,
    "RECORDING": CameraState.RECORDING,
    "DISCONNECTED": CameraState.UNAVAILABLE,
    "OFFLINE": CameraState.UNAVAILABLE,
    "ERROR": CameraState.ERROR,
    "FAILED": CameraState.ERROR,
}
_RUNNING: Final = ("STARTED", "RECORDING", "ACTIVE", "STARTING")
_BEGINS: Final = ("STARTED", "STARTING")
_ENDED: Final = ("STOPPED", "COMPLETED", "FINISHED")
_REMEMBERED: Final = 1000
_MOST_CAMERAS: Final = 4096
"""Cameras of one service that notifications may name; any number may be listed."""
_MOST_FIELDS: Final = 256
"""Fields of a camera or recording that nobody here knows, from all notifications together."""
UNKNOWN: Final = "UNKNOWN"
_INTERRUPTED: Final = "INTERRUPTED"
"""Of a recording that ran when its service was started anew."""


def is_running(recording: RecordingInfo | None) -> bool:
    """Whether the last word on a recording is that it runs."""
    return recording is not None and recording.status.upper() in _RUNNING


def has_ended(recording: RecordingInfo | None) -> bool:
    """Whether the last word on a recording is that it ended well."""
    return recording is not None and recording.status.upper() in _ENDED


def _is_same(known: RecordingInfo, told: RecordingInfo) -> bool:
    """Whether what is told is of the recording that is known; its file may be named now or left out."""
    if told.session_id and known.session_id:
        return told.session_id == known.session_id
    # After a gap nobody knows whether it still runs; only a beginning is that of another one.
    lasts = is_running(known) or (known.status == UNKNOWN and told.status.upper() not in _BEGINS)
    if not told.filename:
        return lasts or not is_running(told)
    if told.filename == known.filename or (lasts and not known.filename):
        return True
    # Some services tell the name without its ending at the start and with it at the stop.
    same_stem = PurePosixPath(told.filename).stem == PurePosixPath(known.filename).stem
    return same_stem and not is_running(told)


def _further(known: Answer, told: Answer) -> dict[str, Any]:
    """Fields of a notification that nobody here knows, as far as there is room for them."""
    fields, more = known.model_extra or {}, told.model_extra or {}
    room = _MOST_FIELDS - len(fields)
    new = list(itertools.islice((name for name in more if name not in fields), max(room, 0)))
    return {name: value for name, value in more.items() if name in fields} | {
        name: more[name] for name in new
    }


class Roster:
    """The cameras of one service.

    Args:
        address: The service's.

    Attributes:
        cameras: By device; those that are away are among them.
        recordings: The last recording of each camera, running or ended.
        files: Files that ended recordings left, by name, the newest last.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self.cameras: dict[str, CameraInfo] = {}
        self.recordings: dict[str, RecordingInfo] = {}
        self.files: dict[str, FileInfo] = {}
        self._nameless = 0
        self._in_doubt_since: dict[str, float] = {}  # elapsed time, by device

    def camera_id(self, device: str) -> str:
        """A camera's stable id."""
        return str(self._address.with_camera(device))

    def describe(self, camera: CameraInfo) -> model.CameraInfo:
        """A camera in the words all systems share."""
        return model.CameraInfo(
            id=self.camera_id(camera.device),
            system="mediamtx",
            name=camera.name or camera.device,
            serial=camera.device,
            address=self.camera_id(camera.device),
            extra=camera.model_dump(exclude={"device", "name", "status", "metrics"}, exclude_none=True),
            identity=self.facts(camera),
        )

    def facts(self, camera: CameraInfo | None) -> Mapping[str, str]:
        """What a camera's service tells to know the camera by; nothing of one that is not there."""
        if camera is None or _STATES.get(camera.status.upper()) is CameraState.UNAVAILABLE:
            return {}
        return identifying_facts(camera.model_extra or {}, name=camera.name)

    def state(self, device: str, info: CameraInfo | None = None) -> CameraState:
        """What a camera does, as far as known; ``info`` is newer than what was told before."""
        camera = info or self.cameras.get(device)
        told = _STATES.get(camera.status.upper(), CameraState.UNKNOWN) if camera else CameraState.UNAVAILABLE
        recording = self.recordings.get(device)
        if recording is None or told not in (CameraState.READY, CameraState.UNKNOWN):
            return told
        if is_running(recording):
            return CameraState.RECORDING
        return CameraState.UNKNOWN if recording.status == UNKNOWN else told

    # -- what was told ----------------------------------------------------------------------------

    def listed(self, cameras: Iterable[CameraInfo]) -> Iterator[Event]:
        """All cameras there are; gives what this changes."""
        before = self._states()
        self.cameras = {camera.device: camera for camera in cameras}
        yield from self._changes(before)

    def told(self, camera: CameraInfo) -> Iterator[Event]:
        """One camera's status; gives what this changes."""
        known = self.cameras.get(camera.device)
        if not camera.device or (known is None and len(self.cameras) >= _MOST_CAMERAS):
            return
        before = self._states(camera.device)
        # Notifications leave out what has not changed.
        self.cameras[camera.device] = (
            known.model_copy(
                update={
                    **{name: getattr(camera, name) for name in camera.model_fields_set},
                    **_further(known, camera),
                }
            )
            if known
            else camera
        )
        yield from self._changes(before, camera.device)

    def recorded(self, recording: RecordingInfo) -> Iterator[Event]:
        """A recording's status; gives what this changes."""
        device = recording.device
        known = self.recordings.get(device)
        if not device or (known is None and len(self.recordings) >= _MOST_CAMERAS):
            return
        before = self._states(device)
        same = known is not None and _is_same(known, recording)
        if known and same:
            told = {
                name: value
                for name in recording.model_fields_set
                if (value := getattr(recording, name)) is not None
            }
            first_id = known.recording_id
            recording = known.model_copy(update=told | _further(known, recording)).known_as(first_id)
        elif is_running(recording) and not recording.recording_id:
            self._nameless += 1
            recording = recording.known_as(f"{device}#{self._nameless}")
        self.recordings[device] = recording
        yield from self._changes(before, device)
        if is_running(recording) and not (same and is_running(known)):
            yield RecordingStarted(camera=self.camera_id(device))
        elif has_ended(recording) and not (same and has_ended(known)):
            self._remember(recording)
            yield RecordingStopped(
                camera=self.camera_id(device), files=(recording.filename,) if recording.filename else ()
            )
        elif has_ended(recording):
            self._remember(recording)

    def start_lost(self, device: str) -> Iterator[Event]:
        """A start was sent and its answer was lost; gives what this changes.

        A service does not tell in a camera's status whether it records. Until a notification or an answer
        does, nobody knows.
        """
        if is_running(self.recordings.get(device)):
            return  # a notification was quicker
        before = self._states()
        self.recordings[device] = RecordingInfo(device=device, status=UNKNOWN)
        self._in_doubt_since[device] = WALL_CLOCK.elapsed()
        yield from self._changes(before)

    def identified(self, recording: RecordingInfo) -> RecordingInfo:
        """A message about a recording under the id that the recording is known by."""
        known = self.recordings.get(recording.device)
        if known is None or not known.recording_id or not _is_same(known, recording):
            return recording
        return recording.known_as(known.recording_id)

    def gap(self, began: float, ended: float, cameras: Iterable[CameraInfo]) -> Iterator[Event]:
        """All cameras there are after the connection was away; gives the gap, then what changed."""
        before = self._states()
        lost = WALL_CLOCK.elapsed() - (ended - began)  # wall time may be set before anybody asks
        for device, recording in self.recordings.items():
            if is_running(recording):
                self._in_doubt_since[device] = lost
        # Whether a recording survived the gap, nobody has said yet.
        self.recordings = {
            device: recording.model_copy(update={"status": UNKNOWN}) if is_running(recording) else recording
            for device, recording in self.recordings.items()
        }
        self.cameras = {camera.device: camera for camera in cameras}
        after = self._states()
        yield MissedEvents(
            camera=str(self._address),
            began=began,
            ended=ended,
            appeared=self._ids(after.keys() - before.keys()),
            vanished=self._ids(before.keys() - after.keys()),
            changed=self._ids(device for device in after.keys() & before if after[device] != before[device]),
        )
        yield from self._changes(before)

    def up_since(self, device: str, moment: float) -> Iterator[Event]:
        """A camera has been served without a break since a moment of elapsed time; gives what this changes.

        A recording that ran before the connection was lost has ended if the service was started after that.
        """
        recording = self.recordings.get(device)
        if (
            recording is None
            or recording.status != UNKNOWN
            or moment < self._in_doubt_since.get(device, moment + 1)
        ):
            return
        before = self._states()
        self.recordings[device] = recording.model_copy(update={"status": _INTERRUPTED})
        yield from self._changes(before)

    # -- inside -----------------------------------------------------------------------------------

    def _states(self, *devices: str) -> dict[str, CameraState]:
        """Cameras that are present, of those given or of all, and what they do."""
        chosen = [device for device in devices if device in self.cameras] if devices else self.cameras
        states = {device: self.state(device) for device in chosen}
        return {device: state for device, state in states.items() if state is not CameraState.UNAVAILABLE}

    def _changes(self, before: dict[str, CameraState], *devices: str) -> Iterator[Event]:
        after = self._states(*devices)
        for device in before.keys() - after.keys():
            yield CameraLost(camera=self.camera_id(device))
        for device, state in after.items():
            if device not in before:
                yield CameraFound(camera=self.camera_id(device), info=self.describe(self.cameras[device]))
            elif state is not before[device]:
                yield CameraStateChanged(
                    camera=self.camera_id(device),
                    state=state,
                    previous=before[device],
                    reason=self.cameras[device].status,
                )

    def _remember(self, recording: RecordingInfo) -> None:
        if not recording.filename:
            return
        self.files.pop(recording.filename, None)
        self.files[recording.filename] = FileInfo(
            filename=recording.filename, file_size=recording.file_size, modified_time=recording.end_time
        )
        while len(self.files) > _REMEMBERED:
            del self.files[next(iter(self.files))]

    def _ids(self, devices: Iterable[str]) -> tuple[str, ...]:
        return tuple(self.camera_id(device) for device in sorted(devices))
