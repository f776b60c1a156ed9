"""How a camera is, and who records with it, from what a session's events say. See docs/mqtt.md."""

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

_BEFORE: Final = frozenset({TakeState.ARMING, TakeState.ARMED, TakeState.STARTING})
_ACTIVE: Final = frozenset({CameraState.RECORDING, CameraState.STOPPING})


class States:
    """The latest state of each camera.

    Args:
        session: Whose cameras.
        recordings: Takes that the bridge began, or None if it takes no commands.
    """

    def __init__(self, session: Session, recordings: Recordings | None) -> None:
        self._session = session
        self._recordings = recordings
        self._heard: dict[str, tuple[CameraState, str]] = {}
        self._settled = False

    def heard(self, event: Event, *, fresh: bool) -> None:
        """Draw conclusions from an event; one that is replayed tells what was so before."""
        if not isinstance(event, CameraEvent):
            return
        state = self._after(event, fresh=fresh)
        if state is not None:
            self._heard[event.camera] = state, getattr(event, "reason", "")

    def forget(self, camera: str) -> None:
        """Forget a camera."""
        self._heard.pop(camera, None)

    def settle(self) -> None:
        """From now on a camera that nothing was heard of is in an unknown state, and not expected to say."""
        self._settled = True

    def of(self, camera: str) -> dict[str, Any] | None:
        """Return what is told of a camera, or None as long as nothing is known and it may soon say itself."""
        away = self._session.unavailable.get(camera)
        state, reason = self._heard.get(camera, (CameraState.UNKNOWN, ""))
        if away is not None:
            words = "" if away.error is None else str(away.error)
            return self._told(camera, CameraState.UNAVAILABLE.value, words or reason)
        take = self._session.take_of(camera)
        if take is not None and take.state in _BEFORE and state not in _ACTIVE:
            return self._told(camera, STARTING, "")
        if camera not in self._heard and not self._settled:
            return None
        if take is not None and take.state is TakeState.STOPPING and state is CameraState.RECORDING:
            state = CameraState.STOPPING
        return self._told(camera, state.value, reason)

    def _told(self, camera: str, state: str, reason: str) -> dict[str, Any]:
        by, take = self._who(camera, state)
        return {"state": state, "reason": reason, "recording_by": by, "take": take}

    def _who(self, camera: str, state: str) -> tuple[str | None, str | None]:
        """Who records with a camera, and the name of the take, as far as that is known."""
        take = self._session.take_of(camera)
        ours = () if self._recordings is None else tuple(self._recordings.takes.values())
        if take is not None:
            return ("bridge" if take in ours else "session"), take.name
        left = None if self._recordings is None else self._recordings.left_of(camera)
        if left is not None:
            return "interrupted", left.take.name
        if state in (CameraState.RECORDING.value, CameraState.STOPPING.value):
            return "other", None
        return None, None

    def _after(self, event: CameraEvent, *, fresh: bool) -> CameraState | None:
        """The state of a camera after an event, or None if that says nothing of it."""
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
        """Being found says that a camera is there. A session that polls asks it how it is.

        Where nobody asks, one of which nothing else was heard is taken to be ready.
        """
        before = self._heard.get(camera, (None, ""))[0]
        if self._session.polls:
            return CameraState.UNKNOWN if fresh and before is CameraState.UNAVAILABLE else None
        return CameraState.READY if before is None or (fresh and before is CameraState.UNAVAILABLE) else None
