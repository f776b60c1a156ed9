"""Features: what a camera can do beyond being there, asked for by typed key.

``camera.feature(Record)`` gives a `SupportsRecord` or raises `FeatureError`; the type checker
knows which. Keys, not inheritance, because what a camera can do is known only once it answers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Generic, Literal, Protocol, TypeVar, runtime_checkable

from asynccam.model.coverage import EarlyEnd, LateBegin
from asynccam.model.info import ClockOffset, LocalFile, MediaFile

F_co = TypeVar("F_co", covariant=True)

Progress = Callable[[int, int | None], None]
"""Called with bytes received so far and the total (None if unknown); must not block."""


@dataclass(frozen=True)  # Python 3.11 cannot make instances of a generic with slots that is frozen
class FeatureKey(Generic[F_co]):
    """Names a feature and carries the type of what `Camera.feature` returns for it."""

    name: str


def _unchanged(when: float) -> float:
    return when


@dataclass(frozen=True, slots=True)
class RecordPlan:
    """What a camera is told ahead of a start.

    Attributes:
        directory: Where a camera that records on this computer puts its files; it exists.
        duration: Intended length in seconds, or None; a hint, the take stops by hand.
        timeout: Seconds the camera may take to accept the start.
        computer_time: Converts the time that `ArmedStart.release` is given to Unix seconds of this computer.
            The two differ where T0 is on a time server's scale.
    """

    directory: Path
    duration: float | None = None
    timeout: float = 60.0
    computer_time: Callable[[float], float] = _unchanged


class AnswerMeaning(StrEnum):
    """What a camera's answer to a start says of the recording itself; a table of each system decides."""

    RECORDING = "recording"
    """The recording has begun: the first frame came before the answer."""
    SCHEDULED = "scheduled"
    """The recording will begin at the time that was given."""
    HEARD = "heard"
    """The start was heard. Nothing is known of the recording."""


@dataclass(frozen=True, slots=True)
class DeviceMoment:
    """A time by a device's own clock, the one that `DeviceClock` measures.

    Attributes:
        time: Unix seconds of the device.
        bound: The device's word is right within this many seconds of its own clock; None if it does not say.
    """

    time: float
    bound: float | None = None


@dataclass(frozen=True, slots=True)
class RecordingReport:
    """What a device answered when it was asked whether it records. Times are this computer's Unix seconds.

    Attributes:
        asked_at: The question left.
        answered_at: The answer arrived.
        recording: Whether the device says that it records.
        first_frame: When its first frame was, where the device tells.
    """

    asked_at: float
    answered_at: float
    recording: bool
    first_frame: DeviceMoment | None = None


@dataclass(frozen=True, slots=True)
class StartReport:
    """How a start went. All times are this computer's Unix seconds.

    Attributes:
        commanded_at: The command left this computer.
        accepted_at: The camera's answer arrived.
        status: The camera's own word for it.
        scheduled_for: The moment the camera promised to start by its own clock, or None for at once.
        first_frame_at: The first frame's time where it is known, else None.
        first_frame_bound: Half the width of the interval that holds it, in seconds.
        names: The camera's names for the files it now writes, where it tells them this early.
        meaning: What the answer says of the recording.
        seen: What the device said of its recording when it was asked after the start.
        first_frame: When the first frame was by the device's own clock, where its answer tells.
        already_recording: Whether the device was recording before this start, as far as it says so.
        started_by_other: Whether what it records is another controller's for certain, so that it is not to be
            stopped: by the device's own clock too, the time of this start had not come.
        frame_drift: As of `StopReport`, which may never come.
    """

    commanded_at: float
    accepted_at: float
    status: str = ""
    scheduled_for: float | None = None
    first_frame_at: float | None = None
    first_frame_bound: float | None = None
    names: tuple[str, ...] = ()
    meaning: AnswerMeaning = AnswerMeaning.HEARD
    seen: tuple[RecordingReport, ...] = ()
    first_frame: DeviceMoment | None = None
    already_recording: bool = False
    started_by_other: bool = False
    frame_drift: float = 0.0


@dataclass(frozen=True, slots=True)
class RecordingGap:
    """A stretch in which a camera is known not to have recorded, by this computer's clock.

    Attributes:
        began: Last moment known to be recorded, Unix seconds.
        ended: First moment recorded again, Unix seconds, or None if the recording ended in the gap.
        restarted: Whether a new file was begun after it.
        reason: Why, in words.
    """

    began: float
    ended: float | None = None
    restarted: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class StopReport:
    """How a stop went.

    Attributes:
        commanded_at: When the stop was commanded, Unix seconds. A recorder on this computer goes on until
            what the camera showed then has arrived, so that its files may be a little longer.
        stopped_at: The camera's answer arrived, Unix seconds.
        status: The camera's own word for it.
        files: What was recorded; files with a ``path`` are already here.
        first_frame_at: The first frame's time where only the stop tells it, else None.
        first_frame_bound: Half the width of the interval that holds it, in seconds.
        gaps: Stretches that are missing from the files, as far as known, in order.
        ended_early: That the video ends clearly before the stop, where a recorder here saw it.
        begins_late: That it begins clearly after the start, likewise.
        spoiled_frames: Pictures that came spoiled and are not in the files; None where nobody counted.
        first_frame: When the first frame was by the device's own clock, where the stop tells.
        frame_drift: Seconds per second by which the clock of the frames in files that were recorded here may
            run apart from this computer's: above 0 where a sender's clock stamps them.
        contradictions: Evidence on the first frame that excludes other evidence, in words;
            `first_frame_bound` covers all of it.
    """

    commanded_at: float
    stopped_at: float
    status: str = ""
    files: tuple[MediaFile, ...] = ()
    first_frame_at: float | None = None
    first_frame_bound: float | None = None
    gaps: tuple[RecordingGap, ...] = ()
    ended_early: EarlyEnd | None = None
    begins_late: LateBegin | None = None
    spoiled_frames: int | None = None
    first_frame: DeviceMoment | None = None
    frame_drift: float = 0.0
    contradictions: tuple[str, ...] = ()


class ArmedStart(Protocol):
    """A start that needs nothing more than to be let go.

    Everything slow (DNS, connecting, encoding the command) is behind it, so `release` of a
    thousand cameras is one tight loop.
    """

    def release(self, at: float | None) -> None:
        """Send the start; never waits.

        Args:
            at: Unix seconds at which the camera is to start by its own clock; None for now.
                Cameras without the `ScheduledStart` feature are only ever given None.
        """
        ...

    async def accepted(self) -> StartReport:
        """Wait for the camera's answer to `release`; raises if it refused or went away."""
        ...

    async def aclose(self) -> None:
        """Let go of what arming opened; harmless after `accepted` and when called twice."""
        ...


class SupportsRecord(Protocol):
    """Start and stop a recording."""

    async def arm(self, plan: RecordPlan) -> ArmedStart:
        """Do everything a start needs short of starting."""
        ...

    async def stop(self, *, timeout: float = 60.0) -> StopReport:
        """Stop the recording, or a scheduled one that has not begun, and say what it left."""
        ...


@runtime_checkable
class StopsOrphanedRecording(Protocol):
    """What a `Record` has besides where a controller that died can leave something running at the camera."""

    async def stop_orphaned_recording(self, *, timeout: float = 60.0) -> None:
        """End what another controller started and a stop would not reach; harmless if there is nothing."""
        ...


@runtime_checkable
class TakesOver(Protocol):
    """What an `ArmedStart` has besides where arming may end what the camera did for another program."""

    @property
    def took_over(self) -> str:
        """What was taken from whom, in words, or ``""``."""
        ...


@runtime_checkable
class ReportsRecording(Protocol):
    """What a `Record` has besides where the device itself can be asked whether it records.

    A service that only repeats what it was told to do is not such a device.
    """

    async def recording_report(self, *, timeout: float = 10.0) -> RecordingReport:
        """Ask the device whether it records; raises if it does not answer within ``timeout`` seconds."""
        ...


class SupportsScheduledStart(Protocol):
    """Starts by the device's own clock at a given time."""

    @property
    def lead(self) -> float:
        """Seconds ahead of time the command should arrive."""
        ...


class SupportsFiles(Protocol):
    """Files on the device."""

    async def list_files(self) -> tuple[MediaFile, ...]:
        """Every recording and picture the device admits to having."""
        ...

    async def download(
        self, file: MediaFile | str, directory: Path, *, progress: Progress | None = None
    ) -> LocalFile:
        """Bring one file home whole, under a name made safe, never over an existing file."""
        ...


class SupportsSnapshot(Protocol):
    """A single picture."""

    async def snapshot(self, directory: Path) -> LocalFile:
        """Take a picture and bring it home.

        Raises:
            DamagedFileError: The picture is broken, where the system reads it; ``part`` is what came of it.
        """
        ...


@runtime_checkable
class ChecksPictures(Protocol):
    """A `Snapshot` whose pictures are read to their end: one that it returns is whole."""

    @property
    def checks_pictures(self) -> Literal[True]:
        """Always True."""
        ...


class SupportsStream(Protocol):
    """A live stream another program can open."""

    async def stream_urls(self) -> Mapping[str, str]:
        """Addresses by kind: ``rtsp``, ``hls``, ``webrtc``, ``srt``, ``udp``."""
        ...


class SupportsDeviceClock(Protocol):
    """A clock that can be compared with this computer's."""

    async def measure_clock(self, *, samples: int = 8) -> ClockOffset:
        """Offset and its bound, from all of several round trips."""
        ...


Record: Final = FeatureKey[SupportsRecord]("record")
ScheduledStart: Final = FeatureKey[SupportsScheduledStart]("scheduled_start")
Files: Final = FeatureKey[SupportsFiles]("files")
Snapshot: Final = FeatureKey[SupportsSnapshot]("snapshot")
Stream: Final = FeatureKey[SupportsStream]("stream")
DeviceClock: Final = FeatureKey[SupportsDeviceClock]("device_clock")
