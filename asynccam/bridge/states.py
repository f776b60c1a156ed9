"""States of cameras, and who records with them, from a session's events. See docs/mqtt.md."""

from typing import Any, Final

from asynccam.bridge.home_assistant import STARTING
from asynccam.bridge.recordings import Recordings
from asynccam.model.events import (
    CameraEvent,
    CameraFound,
    CameraLost,
    CameraStateChanged,
    Event,
    RecordingStarted,
    RecordingStopped,
)
from asynccam.model.info import CameraState
from asynccam.session import Session
from asynccam.take import TakeState

_BEFORE_RECORDING: Final = frozenset({TakeState.ARMING, TakeState.ARMED, TakeState.STARTING})
_ACTIVE: Final = frozenset({CameraState.RECORDING, CameraState.STOPPING})


class CameraStates:
    """Latest state of each camera; ``recordings`` is None if the bridge takes no commands."""

    def __init__(self, session: Session, recordings: Recordings | None) -> None:
        self._session = session
        self._recordings = recordings
        self._latest: dict[str, tuple[CameraState, str]] = {}
        self._waits_no_longer = False

    def on_event(self, event: Event, *, fresh: bool) -> None:
        """Update the state of the event's camera; a replayed event is not ``fresh``."""
        if not isinstance(event, CameraEvent):
            return
        state = self._state_after(event, fresh=fresh)
        if state is not None:
            self._latest[event.camera] = state, getattr(event, "reason", "")

    def forget(self, camera: str) -> None:
        """Forget a camera."""
        self._latest.pop(camera, None)

    def stop_waiting(self) -> None:
        """Report a camera without any event as unknown from now on."""
        self._waits_no_longer = True

    def state_of(self, camera: str) -> dict[str, Any] | None:
        """Return the state document of a camera, or None while its first state may still arrive."""
        unavailable = self._session.unavailable.get(camera)
        state, reason = self._latest.get(camera, (CameraState.UNKNOWN, ""))
        if unavailable is not None:
            message = "" if unavailable.error is None else str(unavailable.error)
            return self._document(camera, CameraState.UNAVAILABLE.value, message or reason)
        take = self._session.take_of(camera)
        if take is not None and take.state in _BEFORE_RECORDING and state not in _ACTIVE:
            return self._document(camera, STARTING, "")
        if camera not in self._latest and not self._waits_no_longer:
            return None
        if take is not None and take.state is TakeState.STOPPING and state is CameraState.RECORDING:
            state = CameraState.STOPPING
        return self._document(camera, state.value, reason)

    def _document(self, camera: str, state: str, reason: str) -> dict[str, Any]:
        by, take = self._recording_by(camera, state)
        return {"state": state, "reason": reason, "recording_by": by, "take": take}

    def _recording_by(self, camera: str, state: str) -> tuple[str | None, str | None]:
        """Return who records with a camera, and the name of the take, as far as known."""
        take = self._session.take_of(camera)
        ours = () if self._recordings is None else tuple(self._recordings.takes.values())
        if take is not None:
            return ("bridge" if take in ours else "session"), take.name
        left = None if self._recordings is None else self._recordings.interrupted_with(camera)
        if left is not None:
            return "interrupted", left.take.name
        if state in (CameraState.RECORDING.value, CameraState.STOPPING.value):
            return "other", None
        return None, None

    def _state_after(self, event: CameraEvent, *, fresh: bool) -> CameraState | None:
        """Return the state of a camera after an event, or None if the event says nothing of it."""
        match event:
            case CameraStateChanged(state=state):
                return state
            case CameraLost():
                return CameraState.UNAVAILABLE
            case RecordingStarted():
                return CameraState.RECORDING
            case RecordingStopped():
                return CameraState.READY
            case CameraFound():
                return self._found(event.camera, fresh=fresh)
            case _:
                return None

    def _found(self, camera: str, *, fresh: bool) -> CameraState | None:
        """Return the state of a found camera: a poll reports it soon; without polls it counts as ready."""
        before = self._latest.get(camera, (None, ""))[0]
        if self._session.polls:
            return CameraState.UNKNOWN if fresh and before is CameraState.UNAVAILABLE else None
        return CameraState.READY if before is None or (fresh and before is CameraState.UNAVAILABLE) else None
