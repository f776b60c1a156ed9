"""Features of cameras, requested by typed key.

``camera.feature(Record)`` gives a `SupportsRecord` or raises `FeatureError`; the type checker
knows which. Keys instead of inheritance, because the features are known only once a camera answers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Generic, Literal, Protocol, TypeVar, runtime_checkable

from asynccam.model.coverage import EarlyEnd, LateBegin
from asynccam.model.digest import DigestName
from asynccam.model.info import ClockOffset, LocalFile, MediaFile

F_co = TypeVar("F_co", covariant=True)

Progress = Callable[[int, int | None], None]
"""Called with bytes received so far and the total (None if unknown); must not block."""


@dataclass(frozen=True)  # Python 3.11 cannot make instances of a generic with slots that is frozen
class FeatureKey(Generic[F_co]):
    """Name of a feature, with the type that `Camera.feature` returns for it."""

    name: str


def _unchanged(when: float) -> float:
    return when


@dataclass(frozen=True, slots=True)
class RecordPlan:
    """Parameters of a recording, for arming its start."""

    directory: Path  # existing directory for the files of a recorder on this computer
    # Intended length in seconds, or None; a hint, since the take stops the camera.
    duration: float | None = None
    timeout: float = 60.0  # seconds the camera may take to accept the start
    # Converts the time given to `ArmedStart.release` to Unix seconds of this computer. The two differ if T0
    # is on a time server's scale.
    computer_time: Callable[[float], float] = _unchanged


class AnswerMeaning(StrEnum):
    """Meaning of a camera's answer to a start; each system has a table."""

    RECORDING = "recording"
    """The recording has begun: the first frame came before the answer."""
    SCHEDULED = "scheduled"
    """The recording will begin at the time that was given."""
    HEARD = "heard"
    """The start was received. Nothing is known of the recording."""


@dataclass(frozen=True, slots=True)
class DeviceMoment:
    """A time by a device's own clock, the one that `DeviceClock` measures."""

    time: float  # Unix seconds of the device
    bound: float | None = None  # uncertainty by its own clock that the device states, in seconds, or None


@dataclass(frozen=True, slots=True)
class RecordingReport:
    """A device's report whether it records; request and answer in Unix seconds of this computer."""

    asked_at: float
    answered_at: float
    recording: bool
    first_frame: DeviceMoment | None = None  # time of its first frame, if the device reports it


@dataclass(frozen=True, slots=True)
class StartReport:
    """Result of a start. All times are Unix seconds of this computer."""

    commanded_at: float  # when the command left this computer
    accepted_at: float  # when the camera's answer arrived
    status: str = ""  # the camera's own text
    scheduled_for: float | None = None  # scheduled start by the camera's own clock, or None for at once
    first_frame_at: float | None = None  # time of the first frame, if known
    first_frame_bound: float | None = None  # uncertainty of ``first_frame_at``, in seconds
    # The camera's names for the files it now writes, if it reports them this early.
    names: tuple[str, ...] = ()
    meaning: AnswerMeaning = AnswerMeaning.HEARD
    seen: tuple[RecordingReport, ...] = ()  # reports of the device that were requested after the start
    # Time of the first frame by the device's own clock, if its answer has it.
    first_frame: DeviceMoment | None = None
    already_recording: bool = False  # whether the device reports that it was recording before this start
    # Whether its recording is certainly another controller's, so that it must not be stopped: by the device's
    # own clock too, the time of this start had not come.
    started_by_other: bool = False
    frame_drift: float = 0.0  # as in `StopReport`, which may never arrive


@dataclass(frozen=True, slots=True)
class RecordingGap:
    """A stretch of time in which a camera is known not to have recorded, by this computer's clock."""

    began: float  # last moment known to be recorded, Unix seconds
    # First moment recorded again, Unix seconds, or None if the recording ended in the gap.
    ended: float | None = None
    restarted: bool = False  # whether a new file was begun after it
    reason: str = ""


@dataclass(frozen=True, slots=True)
class StopReport:
    """Result of a stop. All times are Unix seconds of this computer."""

    # When the stop was commanded. A recorder on this computer continues until what the camera showed then has
    # arrived, so that its files may be a little longer.
    commanded_at: float
    stopped_at: float  # when the camera's answer arrived
    status: str = ""  # the camera's own text
    files: tuple[MediaFile, ...] = ()  # recorded files; those with a ``path`` are on this computer already
    first_frame_at: float | None = None  # time of the first frame, if only the stop reports it
    first_frame_bound: float | None = None  # uncertainty of ``first_frame_at``, in seconds
    gaps: tuple[RecordingGap, ...] = ()  # known gaps in the files, in order
    ended_early: EarlyEnd | None = None  # set by a recorder here if the video ends clearly before the stop
    begins_late: LateBegin | None = None  # set by a recorder here if the video begins clearly after the start
    # Number of damaged frames that are not in the files; None if not counted.
    spoiled_frames: int | None = None
    # Time of the first frame by the device's own clock, if the stop reports it.
    first_frame: DeviceMoment | None = None
    # Seconds per second by which frame times in files recorded here may drift from this computer's clock:
    # above 0 if a sender's clock stamps them.
    frame_drift: float = 0.0
    # Evidence on the first frame that excludes other evidence, in words; ``first_frame_bound`` covers all of
    # it.
    contradictions: tuple[str, ...] = ()


class ArmedStart(Protocol):
    """A start that only has to be released.

    DNS, connecting and encoding the command are done, so that a thousand cameras are released in one tight
    loop.
    """

    def release(self, at: float | None) -> None:
        """Send the start without waiting, for ``at`` in Unix seconds of the camera's clock, or None for now.

        Cameras without the `ScheduledStart` feature only get None.
        """
        ...

    async def accepted(self) -> StartReport:
        """Wait for the camera's answer to `release`; raises if it refused or is unavailable."""
        ...

    async def aclose(self) -> None:
        """Release what arming opened; harmless after `accepted` and when called twice."""
        ...


class SupportsRecord(Protocol):
    """Start and stop of a recording."""

    async def arm(self, plan: RecordPlan) -> ArmedStart:
        """Prepare a start, so that only its command is left to send."""
        ...

    async def stop(self, *, timeout: float = 60.0) -> StopReport:
        """Stop the recording, or a scheduled one that has not begun, and return its files."""
        ...


@runtime_checkable
class StopsOrphanedRecording(Protocol):
    """Optional part of `Record`: stop a recording that a crashed controller left running."""

    async def stop_orphaned_recording(self, *, timeout: float = 60.0) -> None:
        """Stop what another controller started and `stop` would not reach; harmless if there is nothing."""
        ...


@runtime_checkable
class TakesOver(Protocol):
    """Optional part of `ArmedStart`: arming may take the camera over from another program."""

    @property
    def took_over(self) -> str:
        """Description of what was taken from which program, or ``""``."""
        ...


@runtime_checkable
class ReportsRecording(Protocol):
    """Optional part of `Record`: the device itself reports whether it records.

    A service that only repeats the commands it received is not such a device.
    """

    async def recording_report(self, *, timeout: float = 10.0) -> RecordingReport:
        """Request the device's report; raises if it does not answer within ``timeout`` seconds."""
        ...


class SupportsScheduledStart(Protocol):
    """Start at a given time by the device's own clock."""

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
        self,
        file: MediaFile | str,
        directory: Path,
        *,
        progress: Progress | None = None,
        digest: DigestName | None = "sha256",
    ) -> LocalFile:
        """Download one file completely, under a name made safe, never over an existing file.

        ``digest`` is the algorithm of the digest, None for no digest. Takes leave the argument out for
        SHA-256.
        """
        ...


class SupportsSnapshot(Protocol):
    """A single picture."""

    async def snapshot(self, directory: Path) -> LocalFile:
        """Take a picture and download it.

        Raises:
            DamagedFileError: The picture is damaged, if the system checks it; ``part`` is what was received.
        """
        ...


@runtime_checkable
class ChecksPictures(Protocol):
    """Optional part of `Snapshot`: pictures are decoded before they are returned, so they are complete."""

    @property
    def checks_pictures(self) -> Literal[True]:
        """Always True."""
        ...


class SupportsStream(Protocol):
    """A live stream that another program can open."""

    async def stream_urls(self) -> Mapping[str, str]:
        """Return addresses by kind: ``rtsp``, ``hls``, ``webrtc``, ``srt``, ``udp``."""
        ...


class SupportsDeviceClock(Protocol):
    """A device clock that can be compared with this computer's."""

    async def measure_clock(self, *, samples: int = 8) -> ClockOffset:
        """Return the offset and its bound, from several round trips."""
        ...


Record: Final = FeatureKey[SupportsRecord]("record")
ScheduledStart: Final = FeatureKey[SupportsScheduledStart]("scheduled_start")
Files: Final = FeatureKey[SupportsFiles]("files")
Snapshot: Final = FeatureKey[SupportsSnapshot]("snapshot")
Stream: Final = FeatureKey[SupportsStream]("stream")
DeviceClock: Final = FeatureKey[SupportsDeviceClock]("device_clock")
