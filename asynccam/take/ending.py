"""Whether the files that a camera made itself reach to the end of the take. See docs/take.md.

A recorder on this computer tells this by itself, more closely, at its stop.
"""

from typing import Final

from asynccam.model.ending import end_tolerance
from asynccam.model.manifest import CameraRecord, EarlyEndRecord, FileState, Moment, VerdictRecord

END_BOUND: Final = 2.0
"""Seconds that a device's video may lack at any frame rate: it may answer a start before its first frame."""
_INTERVAL: Final = 1.0
"""Seconds between two frames where a file has only one."""


def judge_end(record: CameraRecord, until: float | None) -> None:
    """Put it on record if a device's video ends clearly before it was told to.

    Args:
        record: Of a camera whose files were looked into; nothing is said where some were not.
        until: When the take's recording was over, Unix seconds of this computer, or None if nobody knows.
    """
    first, told = record.first_frame_at, record.stop_commanded_at
    ends = [end for end in (until, None if told is None else told.unix) if end is not None]
    here = any(file.source == "local" for file in record.files)
    if here or record.kind == "still" or record.ended_early is not None or first is None or not ends:
        return
    verdicts = [file.verdict for file in record.files if file.state is FileState.ARRIVED and file.verdict]
    lengths = [one.duration for one in verdicts if one.duration is not None]
    if not lengths or len(lengths) < len(record.files):
        return
    gaps = sum(gap.ended_at.unix - gap.began_at.unix for gap in record.gaps if gap.ended_at is not None)
    at = first.unix + sum(lengths) + gaps
    missing = min(ends) - at
    interval = max(_interval(one) for one in verdicts)
    tolerance = end_tolerance(min(ends) - first.unix, interval, files=len(lengths), bound=END_BOUND)
    if missing > tolerance + (record.first_frame_bound or 0.0):
        record.ended_early = EarlyEndRecord(
            at=Moment.of(at), seconds=missing, reason="the video is shorter than the recording lasted"
        )


def _interval(verdict: VerdictRecord) -> float:
    frames = verdict.frames or 0
    return (verdict.duration or 0.0) / frames if frames > 1 else _INTERVAL
