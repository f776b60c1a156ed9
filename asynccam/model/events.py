"""Events: frozen values that say what happened, the same for all five systems."""

from dataclasses import dataclass, field
from typing import ClassVar

from asynccam.model.info import CameraInfo, CameraState, ClockOffset, LocalFile
from asynccam.wall_clock import unix_now


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something happened.

    Attributes:
        at: When this computer learned of it, Unix seconds.
        slot: Which part of its subject's state it tells, or ``""`` for what is no state. The latest
            of each slot and subject is kept for those who begin to listen later.
    """

    at: float = field(default_factory=unix_now)
    slot: ClassVar[str] = ""

    @property
    def subject(self) -> str:
        """Whom it is about: a camera's id, a service's address, a take's name, or ``""``."""
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraEvent(Event):
    """Something happened to one camera.

    Attributes:
        camera: The camera's stable id.
    """

    camera: str

    @property
    def subject(self) -> str:
        """The camera's id."""
        return self.camera


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraFound(CameraEvent):
    """A camera appeared, for the first time or after it had been away."""

    slot: ClassVar[str] = "presence"
    info: CameraInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraChanged(CameraEvent):
    """A known camera is reached at another address, or describes itself differently."""

    slot: ClassVar[str] = "description"
    info: CameraInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraLost(CameraEvent):
    """A camera said goodbye, stopped being announced, or was removed from the session."""

    slot: ClassVar[str] = "presence"


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraStateChanged(CameraEvent):
    """A camera does something else than before."""

    slot: ClassVar[str] = "state"
    state: CameraState
    previous: CameraState = CameraState.UNKNOWN
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MissedEvents(CameraEvent):
    """A connection was away for a while; what was told meanwhile is lost, but the difference is known.

    Attributes:
        camera: The camera's id, or the address of the service whose cameras are meant.
        began: When the connection was lost, Unix seconds.
        ended: When everything was fetched again, Unix seconds.
        appeared: Ids of cameras that were not there before.
        vanished: Ids of cameras that are gone.
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
    """A step failed for one camera; the others go on.

    Attributes:
        step: What was being done, ``arm`` or ``collect`` for example.
        error: The exception.
    """

    step: str
    error: Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingStarted(CameraEvent):
    """The camera accepted a start.

    Attributes:
        scheduled_for: When it promised to start, Unix seconds by its own clock; None for at once.
        due: The same moment by this computer's clock, Unix seconds; the two differ where a take's T0 is on
            the scale of a time server.
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
    """Part of a file arrived.

    Attributes:
        name: The device's name for the file.
        received: Bytes so far.
        total: Bytes in all, or None if not announced.
    """

    name: str
    received: int
    total: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileArrived(CameraEvent):
    """A file came home whole."""

    file: LocalFile


@dataclass(frozen=True, slots=True, kw_only=True)
class TakePhaseChanged(Event):
    """A take moved on.

    Attributes:
        take: The take's name.
        phase: ``arming``, ``armed``, ``starting``, ``recording``, ``stopping``, ``stopped``,
            ``collecting``, ``done``.
    """

    slot: ClassVar[str] = "take"
    take: str
    phase: str

    @property
    def subject(self) -> str:
        """The take's name."""
        return self.take


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockStepped(Event):
    """This computer's clock was set. Nothing that asynccam waits for or measures follows it.

    Attributes:
        seconds: By how much, forward above 0.
    """

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramPaused(Event):
    """Nothing of this program ran for a while: no start left, no answer was read.

    Attributes:
        began: When it was last seen running, Unix seconds.
        seconds: How long nothing ran.
        slept: Whether the computer slept; False for a stopped process or a blocked event loop.
    """

    began: float
    seconds: float
    slept: bool
