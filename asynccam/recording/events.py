"""What recorders tell: events, states, and how a recording ended."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from asynccam.model.coverage import EarlyEnd, LateBegin
from asynccam.model.events import Event
from asynccam.recording.verify import FileVerdict


class RecorderState(Enum):
    """Where a recorder stands."""

    IDLE = "idle"
    STARTING = "starting"
    ARMED = "armed"
    RECORDING = "recording"
    STALLED = "stalled"
    RESTARTING = "restarting"
    STOPPING = "stopping"
    ENDED = "ended"
    FAILED = "failed"


TRANSITIONS: Final[dict[RecorderState, frozenset[RecorderState]]] = {
    RecorderState.IDLE: frozenset({RecorderState.STARTING}),
    RecorderState.STARTING: frozenset({RecorderState.ARMED, RecorderState.RECORDING, RecorderState.STOPPING}),
    RecorderState.ARMED: frozenset({RecorderState.RECORDING, RecorderState.STOPPING}),
    RecorderState.RECORDING: frozenset(
        {RecorderState.STALLED, RecorderState.RESTARTING, RecorderState.STOPPING}
    ),
    RecorderState.STALLED: frozenset(
        {RecorderState.RECORDING, RecorderState.RESTARTING, RecorderState.STOPPING}
    ),
    RecorderState.RESTARTING: frozenset({RecorderState.RECORDING, RecorderState.STOPPING}),
    RecorderState.STOPPING: frozenset({RecorderState.ENDED, RecorderState.FAILED}),
    RecorderState.ENDED: frozenset(),
    RecorderState.FAILED: frozenset(),
}
"""Every move a recorder may make; any other is a fault in asynccam."""


class EndReason(Enum):
    """Why a recording ended."""

    STOPPED = "stopped"
    LIMIT = "limit"
    END_OF_STREAM = "end of stream"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Gap:
    """A time without frames.

    Attributes:
        began: When the last growth was seen, Unix seconds.
        ended: When frames came again, Unix seconds; or when the recording was ended without one.
        restarted: Whether a new process, and so a new file, was begun for it.
        resumed: Whether frames came again.
    """

    began: float
    ended: float
    restarted: bool
    resumed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderEvent(Event):
    """Something happened to a recorder.

    Attributes:
        recorder: Its name.
    """

    recorder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderStarted(RecorderEvent):
    """The first frame reached the muxer.

    Attributes:
        first_frame_at: When this computer learned of it, Unix seconds.
        first_frame_bound: The frame was there at most this many seconds earlier.
    """

    first_frame_at: float
    first_frame_bound: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderProgress(RecorderEvent):
    """How far a recording is.

    Attributes:
        bytes: On disk, files that were rotated away not counted.
        frames: That reached the muxer, as of the last count (once a second).
        fps: Frames a second between the last two counts, or None before there are two.
        dropped: Frames that elements reported as lost.
        spoiled: Pictures that were left out because they are spoiled, see `Recorder.spoiled`.
    """

    bytes: int
    frames: int
    fps: float | None
    dropped: int
    spoiled: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderSegmentClosed(RecorderEvent):
    """A file of a split recording was finished.

    Attributes:
        path: The file, or None where the muxer does not tell (HLS).
        duration: Seconds.
    """

    path: Path | None
    duration: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderStalled(RecorderEvent):
    """No frame came for the stall timeout, or the process ended by itself and is to be restarted.

    Attributes:
        since: When the last growth was seen, Unix seconds.
        reason: What is known of the cause.
    """

    since: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderResumed(RecorderEvent):
    """Frames come again."""

    gap: Gap


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderOtherStream(RecorderEvent):
    """Packets of another RTP stream come to the port of a recording, and are left out.

    Told once for each stream. One with the address of the sender that is recorded was begun anew by it.

    Attributes:
        address: IP address it comes from.
        port: UDP port it comes from.
        ssrc: Number that tells streams apart (RFC 3550, 8).
    """

    address: str
    port: int
    ssrc: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderDiskLow(RecorderEvent):
    """The disk is filling up.

    Attributes:
        free: Bytes left.
        seconds: How long they last at the present rate, or None if nothing is being written.
    """

    free: int
    seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderEnded(RecorderEvent):
    """The recording is over and every file was read.

    Attributes:
        reason: Why it ended.
        verdicts: What each file is worth.
        error: What went wrong, or None.
        ended_early: As of `Recorder.ended_early` at that moment.
        begins_late: As of `Recorder.begins_late`.
        spoiled: As of `Recorder.spoiled`.
    """

    reason: EndReason
    verdicts: tuple[FileVerdict, ...]
    error: Exception | None = None
    ended_early: EarlyEnd | None = None
    begins_late: LateBegin | None = None
    spoiled: int = 0
