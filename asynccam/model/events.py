"""Events: frozen values, the same for all systems."""

from dataclasses import dataclass, field
from typing import ClassVar

from asynccam.model.info import CameraInfo, CameraState, ClockOffset, LocalFile
from asynccam.wall_clock import unix_now


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all events.

    Attributes:
        at: When this computer learned of it, Unix seconds.
        slot: Part of its subject's state that it reports, or ``""``. The latest event of each slot and
            subject is kept for late subscribers.
    """

    at: float = field(default_factory=unix_now)
    slot: ClassVar[str] = ""

    @property
    def subject(self) -> str:
        """Subject of the event: a camera's id, a service's address, a take's name, or ``""``."""
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraEvent(Event):
    """Base of the events of one camera, given by its stable id."""

    camera: str

    @property
    def subject(self) -> str:
        """Id of the camera."""
        return self.camera


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraFound(CameraEvent):
    """A camera appeared, for the first time or after it had been unavailable."""

    slot: ClassVar[str] = "presence"
    info: CameraInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraChanged(CameraEvent):
    """A known camera is reached at another address, or describes itself differently."""

    slot: ClassVar[str] = "description"
    info: CameraInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraLost(CameraEvent):
    """A camera is unavailable, is no longer announced, or was removed from the session."""

    slot: ClassVar[str] = "presence"


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraStateChanged(CameraEvent):
    """A camera changed its state."""

    slot: ClassVar[str] = "state"
    state: CameraState
    previous: CameraState = CameraState.UNKNOWN
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MissedEvents(CameraEvent):
    """Events were missed while a connection was lost; only their result is known.

    Attributes:
        camera: The camera's id, or the address of the service whose cameras are meant.
        began: When the connection was lost, Unix seconds.
        ended: When the state was fetched again, Unix seconds.
        appeared: Ids of new cameras.
        vanished: Ids of cameras that no longer exist.
        changed: Ids of cameras that are in another state.
    """

    slot: ClassVar[str] = "gap"
    began: float
    ended: float
    appeared: tuple[str, ...] = ()
    vanished: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraFailed(CameraEvent):
    """A step, such as ``arm`` or ``collect``, failed for one camera; the others continue."""

    step: str
    error: Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingStarted(CameraEvent):
    """The camera accepted a start.

    Attributes:
        scheduled_for: Scheduled start in Unix seconds of the camera's clock; None for at once.
        due: The same moment in Unix seconds of this computer's clock. The two differ if a take's T0 is on the
            scale of a time server.
    """

    slot: ClassVar[str] = "recording"
    scheduled_for: float | None = None
    due: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingStopped(CameraEvent):
    """The camera stopped and named its files."""

    slot: ClassVar[str] = "recording"
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockMeasured(CameraEvent):
    """The camera's clock was compared with this computer's."""

    slot: ClassVar[str] = "clock"
    offset: ClockOffset


@dataclass(frozen=True, slots=True, kw_only=True)
class FileProgress(CameraEvent):
    """Part of a file was downloaded.

    Attributes:
        name: The device's name for the file.
        received: Bytes so far.
        total: Total bytes, or None if not announced.
    """

    name: str
    received: int
    total: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileArrived(CameraEvent):
    """A file was downloaded completely."""

    file: LocalFile


@dataclass(frozen=True, slots=True, kw_only=True)
class TakePhaseChanged(Event):
    """A take, given by its name, entered a phase: one of `TakeState` or ``resuming``."""

    slot: ClassVar[str] = "take"
    take: str
    phase: str

    @property
    def subject(self) -> str:
        """Name of the take."""
        return self.take


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockStepped(Event):
    """This computer's clock was set by ``seconds``, above 0 for forward.

    Nothing that asynccam waits for or measures follows it.
    """

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramPaused(Event):
    """This program did not run for a while: no start left, no answer was read.

    Attributes:
        began: When it last ran, Unix seconds.
        seconds: Length of the pause.
        slept: Whether the computer slept; False for a stopped process or a blocked event loop.
    """

    began: float
    seconds: float
    slept: bool
