"""Events, states and results of recorders."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from asynccam.model.coverage import EarlyEnd, LateBegin
from asynccam.model.events import Event
from asynccam.recording.verify import FileVerdict


class RecorderState(Enum):
    """State of a recorder."""

    IDLE = "idle"
    STARTING = "starting"
    ARMED = "armed"
    RECORDING = "recording"
    STALLED = "stalled"
    RESTARTING = "restarting"
    STOPPING = "stopping"
    ENDED = "ended"
    FAILED = "failed"


class EndReason(Enum):
    """Reason why a recording ended."""

    STOPPED = "stopped"
    LIMIT = "limit"
    END_OF_STREAM = "end of stream"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Gap:
    """A time without frames.

    Attributes:
        began: When frames were last seen to arrive, Unix seconds.
        ended: When frames arrived again, Unix seconds; or when the recording was ended without one.
        restarted: Whether a new process, and so a new file, was started for it.
        resumed: Whether frames arrived again.
    """

    began: float
    ended: float
    restarted: bool
    resumed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderEvent(Event):
    """Event of the recorder that is named ``recorder``."""

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
    """Progress of a recording.

    Attributes:
        bytes: On disk, without files that were rotated away.
        frames: Frames that reached the muxer, as of the last count (once a second).
        fps: Frames a second between the last two counts, or None before there are two.
        dropped: Frames that elements reported as lost.
        spoiled: Pictures that were left out because they are broken, see `Recorder.spoiled`.
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
        path: The file, or None where the muxer does not report it (HLS).
        duration: Seconds.
    """

    path: Path | None
    duration: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderStalled(RecorderEvent):
    """No frame arrived for the stall timeout, or the process ended by itself and is to be restarted.

    Attributes:
        since: When frames were last seen to arrive, Unix seconds.
        reason: Known cause, in words.
    """

    since: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderResumed(RecorderEvent):
    """Frames arrive again."""

    gap: Gap


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderOtherStream(RecorderEvent):
    """Packets of another RTP stream arrive at the port of a recording, and are left out.

    Reported once for each stream. One from the address of the recorded sender is that sender's new stream.

    Attributes:
        address: IP address of its sender.
        port: UDP port of its sender.
        ssrc: Number that distinguishes streams (RFC 3550, 8).
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
        verdicts: One for each file.
        error: The failure, or None.
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
