"""State of a service's cameras, recordings and files, from results and notifications.

A service reports a recording twice, by a notification and by a result, in either order. `RecordingStarted`
and the other events of all systems are emitted once.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Final, TypeVar

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
from asynccam.systems.mediamtx.models import CameraInfo, FileInfo, RecordingInfo, ServiceResult
from asynccam.wall_clock import WALL_CLOCK

R = TypeVar("R", bound=ServiceResult)

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
_STARTED: Final = ("STARTED", "STARTING")
_ENDED: Final = ("STOPPED", "COMPLETED", "FINISHED")
_MAX_FILES: Final = 1000
_MAX_CAMERAS: Final = 4096
"""Cameras of one service that notifications may add; a list may have any number."""
_MAX_EXTRA_FIELDS: Final = 256
"""Unknown fields of a camera or recording that are kept, from all notifications together."""
UNKNOWN: Final = "UNKNOWN"
_INTERRUPTED: Final = "INTERRUPTED"
"""Status of a recording that ran when its service was restarted."""


def is_running(recording: RecordingInfo | None) -> bool:
    """Return whether the last report of a recording is that it runs."""
    return recording is not None and recording.status.upper() in _RUNNING


def has_ended(recording: RecordingInfo | None) -> bool:
    """Return whether the last report of a recording is that it ended well."""
    return recording is not None and recording.status.upper() in _ENDED


def _is_same_recording(known: RecordingInfo, report: RecordingInfo) -> bool:
    """Return whether a report is of the known recording; either may lack the file's name."""
    if report.session_id and known.session_id:
        return report.session_id == known.session_id
    # After a gap the recording may still run; only a start proves that it is another one.
    lasts = is_running(known) or (known.status == UNKNOWN and report.status.upper() not in _STARTED)
    if not report.filename:
        return lasts or not is_running(report)
    if report.filename == known.filename or (lasts and not known.filename):
        return True
    # Some services send the name without its suffix at the start and with it at the stop.
    same_stem = PurePosixPath(report.filename).stem == PurePosixPath(known.filename).stem
    return same_stem and not is_running(report)


def _updated(known: R, report: R) -> R:
    """Return what is known with the values of a report, which leaves out those that have not changed.

    Of new unknown fields, only as many are kept as the limit allows. The report itself is returned if it has
    every field that is known.
    """
    # By these names and not by `model_fields_set`, as it runs for every notification.
    given, extra = report.__pydantic_fields_set__, report.__pydantic_extra__ or {}
    if known.__pydantic_fields_set__ <= given and len(extra) <= _MAX_EXTRA_FIELDS:
        return report
    fields = known.model_extra or {}
    room = max(_MAX_EXTRA_FIELDS - len(fields), 0)
    new = set(itertools.islice((name for name in extra if name not in fields), room))
    values = {name: getattr(report, name) for name in given if name not in extra or name in fields}
    return known.model_copy(update=values | {name: extra[name] for name in new})


class ServiceStateCache:
    """Cameras of the service at an address. Updates return the events they cause: exhaust the iterators."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self.cameras: dict[str, CameraInfo] = {}  # by device, unavailable ones included
        self.recordings: dict[str, RecordingInfo] = {}  # last ones, by device
        self.files: dict[str, FileInfo] = {}  # of ended recordings, by name, the newest last
        self._ids_by_device: dict[str, str] = {}
        self._next_local_id = 0
        self._unknown_since: dict[str, float] = {}  # elapsed time, by device

    def camera_id(self, device: str) -> str:
        """Return a camera's stable id."""
        known = self._ids_by_device.get(device)
        if known is None:
            if len(self._ids_by_device) >= _MAX_CAMERAS:  # the service may name any number of cameras
                self._ids_by_device.clear()
            known = self._ids_by_device[device] = str(self._address.with_camera(device))
        return known

    def describe(self, camera: CameraInfo) -> model.CameraInfo:
        """Describe a camera as all systems do."""
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
        """Return the identifying facts of a camera that the service reports; none of an unavailable one."""
        if camera is None or _STATES.get(camera.status.upper()) is CameraState.UNAVAILABLE:
            return {}
        return identifying_facts(camera.model_extra or {}, name=camera.name)

    def state(self, device: str, info: CameraInfo | None = None) -> CameraState:
        """Return a camera's state; ``info`` is a status newer than the cached one."""
        camera = info or self.cameras.get(device)
        state = _STATES.get(camera.status.upper(), CameraState.UNKNOWN) if camera else CameraState.UNAVAILABLE
        recording = self.recordings.get(device)
        if recording is None or state not in (CameraState.READY, CameraState.UNKNOWN):
            return state
        if is_running(recording):
            return CameraState.RECORDING
        return CameraState.UNKNOWN if recording.status == UNKNOWN else state

    # -- updates ----------------------------------------------------------------------------------

    def update_cameras(self, cameras: Iterable[CameraInfo]) -> Iterator[Event]:
        """Replace all cameras."""
        known, listed = self.cameras, {camera.device: camera for camera in cameras}
        # A camera's state depends on its status and its recording only.
        changed = [
            device
            for device in {**known, **listed}
            if device not in known or device not in listed or known[device].status != listed[device].status
        ]
        before = {device: self._present_state(device) for device in changed}
        self.cameras = listed
        yield from self._changes(before)

    def update_camera(self, camera: CameraInfo) -> Iterable[Event]:
        """Update one camera."""
        device = camera.device
        known = self.cameras.get(device)
        if not device or (known is None and len(self.cameras) >= _MAX_CAMERAS):
            return ()
        updated = camera if known is None else _updated(known, camera)
        if known is not None and updated.status == known.status:
            # A camera's state depends on its status and its recording only.
            self.cameras[device] = updated
            return ()
        before = self._present_state(device)
        self.cameras[device] = updated
        return self._change(device, before, self._present_state(device))

    def update_recording(self, recording: RecordingInfo) -> Iterator[Event]:
        """Update a camera's recording."""
        device = recording.device
        known = self.recordings.get(device)
        if not device or (known is None and len(self.recordings) >= _MAX_CAMERAS):
            return
        before = self._present_state(device)
        same = known is not None and _is_same_recording(known, recording)
        if known is not None and same:
            recording = _updated(known, recording).known_as(known.recording_id)
        elif is_running(recording) and not recording.recording_id:
            self._next_local_id += 1
            recording = recording.known_as(f"{device}#{self._next_local_id}")
        self.recordings[device] = recording
        yield from self._change(device, before, self._present_state(device))
        if is_running(recording) and not (same and is_running(known)):
            yield RecordingStarted(camera=self.camera_id(device))
        elif has_ended(recording):
            self._remember_file(recording)
            if not (same and has_ended(known)):
                files = (recording.filename,) if recording.filename else ()
                yield RecordingStopped(camera=self.camera_id(device), files=files)

    def mark_start_lost(self, device: str) -> Iterator[Event]:
        """Set the recording to unknown, after the response to a start was lost."""
        if is_running(self.recordings.get(device)):
            return  # a notification was received first
        before = self._present_state(device)
        # A camera's status does not show whether it records; only a notification or a result does.
        self.recordings[device] = RecordingInfo(device=device, status=UNKNOWN)
        self._unknown_since[device] = WALL_CLOCK.elapsed()
        yield from self._change(device, before, self._present_state(device))

    def with_known_id(self, recording: RecordingInfo) -> RecordingInfo:
        """Return a message about a recording under the id that the recording is known by."""
        known = self.recordings.get(recording.device)
        if known is None or not known.recording_id or not _is_same_recording(known, recording):
            return recording
        return recording.known_as(known.recording_id)

    def update_after_gap(self, began: float, ended: float, cameras: Iterable[CameraInfo]) -> Iterator[Event]:
        """Replace all cameras after the connection was lost; the first event is `MissedEvents`."""
        before = self._states()
        lost = WALL_CLOCK.elapsed() - (ended - began)  # as elapsed time: the wall clock may be set later
        for device, recording in self.recordings.items():
            if is_running(recording):  # no message yet shows whether it survived the gap
                self.recordings[device] = recording.model_copy(update={"status": UNKNOWN})
                self._unknown_since[device] = lost
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
        yield from self._changes({device: before.get(device) for device in {**before, **after}})

    def mark_up_since(self, device: str, moment: float) -> Iterator[Event]:
        """End a recording of unknown state if the service was started (elapsed time) after the gap began."""
        recording = self.recordings.get(device)
        if (
            recording is None
            or recording.status != UNKNOWN
            or moment < self._unknown_since.get(device, moment + 1)
        ):
            return
        before = self._present_state(device)
        self.recordings[device] = recording.model_copy(update={"status": _INTERRUPTED})
        yield from self._change(device, before, self._present_state(device))

    # -- inside -----------------------------------------------------------------------------------

    def _present_state(self, device: str) -> CameraState | None:
        """Return the state of a known camera, or None if it is unknown or unavailable."""
        state = self.state(device) if device in self.cameras else CameraState.UNAVAILABLE
        return None if state is CameraState.UNAVAILABLE else state

    def _states(self) -> dict[str, CameraState]:
        """Return the states of all cameras, without unavailable ones."""
        states = {device: self._present_state(device) for device in self.cameras}
        return {device: state for device, state in states.items() if state is not None}

    def _changes(self, before: Mapping[str, CameraState | None]) -> Iterator[Event]:
        """Return the events of cameras whose states were these, losses first."""
        after = {device: self._present_state(device) for device in before}
        for device in sorted(before, key=lambda device: after[device] is not None):
            yield from self._change(device, before[device], after[device])

    def _change(
        self, device: str, before: CameraState | None, after: CameraState | None
    ) -> tuple[Event, ...]:
        """Return the event of a changed state of one camera, if it has changed."""
        if after is before:
            return ()
        camera = self.camera_id(device)
        if after is None:
            return (CameraLost(camera=camera),)
        if before is None:
            return (CameraFound(camera=camera, info=self.describe(self.cameras[device])),)
        reason = self.cameras[device].status
        return (CameraStateChanged(camera=camera, state=after, previous=before, reason=reason),)

    def _remember_file(self, recording: RecordingInfo) -> None:
        if not recording.filename:
            return
        self.files.pop(recording.filename, None)
        self.files[recording.filename] = FileInfo(
            filename=recording.filename, file_size=recording.file_size, modified_time=recording.end_time
        )
        while len(self.files) > _MAX_FILES:
            del self.files[next(iter(self.files))]

    def _ids(self, devices: Iterable[str]) -> tuple[str, ...]:
        return tuple(self.camera_id(device) for device in sorted(devices))
