"""Outcome of a take: coverage of the time asked for, gaps, and how each camera's part ended.

A recorder on this computer judges this itself, more closely, at its stop. See docs/recording.md.
"""

from collections.abc import Sequence
from typing import Final

from asynccam.model.coverage import (
    HOLE,
    MOST_REACTION,
    begin_tolerance,
    end_tolerance,
    is_hole,
)
from asynccam.model.info import CheckResult, ReportsOutages
from asynccam.model.manifest import (
    CameraRecord,
    EarlyEndRecord,
    FileRecord,
    FileState,
    GapRecord,
    LateBeginRecord,
    Manifest,
    Moment,
    Outcome,
    PauseRecord,
)
from asynccam.take.timing import SCHEDULE_BOUND, first_frame, note_seen

_OBSERVED: Final = ("seen", "device", "status", "length")
"""Sources of a first frame that may be late; one that is inferred from the start itself cannot be."""


def outcome_of(camera: CameraRecord, unfinished: Outcome, *, late: bool = False) -> Outcome:
    """Return how one camera's part ended: ``unfinished`` for one without a file.

    ``late`` means that its start left too late, see `Manifest.started_late`.
    """
    arrived = [file for file in camera.files if file.state is FileState.ARRIVED]
    if not arrived:
        # A camera that was left to another controller was sent no stop, and its recording is not this take's.
        left_alone = camera.already_recording and camera.stop_commanded_at is None
        return Outcome.INCOMPLETE if left_alone and unfinished is Outcome.FAILED else unfinished
    complete = (
        len(arrived) == len(camera.files)
        and not any(file.verdict is not None and file.verdict.is_failure for file in arrived)
        and camera.accepted_at is not None
        and camera.stopped_at is not None
        and camera.begins_late is None
        and camera.ended_early is None
        and not (camera.gaps or camera.contradictions or late)
    )
    return Outcome.COMPLETE if complete else Outcome.INCOMPLETE


def outcome_of_all(manifest: Manifest) -> Outcome:
    """Return how a take ended by its cameras' outcomes; never complete if a camera was missing."""
    outcomes = {camera.outcome for camera in manifest.cameras}
    outcome = outcomes.pop() if len(outcomes) == 1 else Outcome.INCOMPLETE
    return Outcome.INCOMPLETE if manifest.missing and outcome is Outcome.COMPLETE else outcome


# -- gaps -------------------------------------------------------------------------------------------


def note_hole(record: CameraRecord, file: FileRecord, result: CheckResult) -> None:
    """Record a gap if frames are missing within a file, unless a gap is recorded already.

    The check does not say where in the file that is: somewhere after the first frame. If the recorder was on
    this computer, the frames before the hole may have waited for T0, and are then older by as much.
    """
    if record.kind == "still" or not isinstance(result, ReportsOutages):
        return
    longest = result.longest
    if longest is None or not is_hole(longest, result.interval):
        return
    began = record.first_frame_at or record.commanded_at
    known = any(gap.ended_at is None or gap.ended_at.unix - gap.began_at.unix > HOLE for gap in record.gaps)
    if known or began is None:
        return
    reason = f"{longest:.1f} s without a frame, somewhere in {file.name}"
    record.gaps.append(GapRecord(began_at=began, reason=reason))
    if file.source == "local" and record.first_frame_at is not None and record.first_frame_source == "seen":
        half = longest / 2
        note_seen(record, record.first_frame_at.unix - half, (record.first_frame_bound or 0.0) + half)


def note_sleep(record: CameraRecord, pauses: Sequence[PauseRecord]) -> None:
    """Record a gap if this computer slept while a recorder on it recorded the camera.

    A recorder in a device goes on, and so does one here while only the program's loop was blocked.
    """
    began, ended = record.commanded_at, record.stopped_at
    if began is None or ended is None or record.kind == "still":
        return
    if not any(file.source == "local" for file in record.files):
        return
    for pause in pauses:
        until = pause.at.unix + pause.seconds
        known = any(
            gap.began_at.unix <= until and (gap.ended_at is None or gap.ended_at.unix >= pause.at.unix)
            for gap in record.gaps
        )
        if pause.slept and not known and pause.at.unix > began.unix and until < ended.unix:
            record.gaps.append(GapRecord(began_at=pause.at, ended_at=Moment.of(until), reason=pause.cause))
    record.gaps.sort(key=lambda gap: gap.began_at.unix)


# -- begin and end ----------------------------------------------------------------------------------


def judge_coverage(record: CameraRecord, manifest: Manifest, until: float | None) -> None:
    """Record whether a camera's video begins clearly after the start, or ends clearly before the stop.

    Nothing is recorded if the time of the first frame or the length of a file is unknown. ``until`` is when
    the take's recording was over, Unix seconds of this computer, or None if unknown.
    """
    if record.kind == "still" or not any(file.state is FileState.ARRIVED for file in record.files):
        return
    _judge_begin(record, None if manifest.start is None else manifest.start.t0_local.unix)
    _judge_end(record, manifest, until)


def _judge_begin(record: CameraRecord, t0: float | None) -> None:
    first = record.first_frame_at
    if first is None or record.first_frame_source not in _OBSERVED or record.begins_late is not None:
        return
    expected = _expected_begin(record, t0)
    if expected is None:
        return
    interval = max((verdict.frame_interval for verdict in record.verdicts), default=0.0)
    missing = first.unix - expected
    bound = record.first_frame_bound or 0.0
    if record.scheduled_for is not None and record.first_frame_source != "seen":
        bound += SCHEDULE_BOUND  # a device that is as late as its maker allows has kept its promise
    if missing > begin_tolerance(interval, bound=bound):
        record.begins_late = LateBeginRecord(
            at=first, seconds=missing, reason="its first frame came after the start"
        )


def _expected_begin(record: CameraRecord, t0: float | None) -> float | None:
    # A camera without a schedule begins between the command and its answer, if that comes promptly.
    commanded, answered = record.commanded_at, record.accepted_at
    starts = [moment.unix for moment in (commanded, answered) if moment is not None]
    if record.scheduled_for is not None:
        starts = []
    elif commanded is not None and answered is not None and answered.unix - commanded.unix > MOST_REACTION:
        starts = [commanded.unix]
    return max([*starts, *([] if t0 is None else [t0])], default=None)


def _judge_end(record: CameraRecord, manifest: Manifest, until: float | None) -> None:
    commanded = record.stop_commanded_at
    ends = [end for end in (until, None if commanded is None else commanded.unix) if end is not None]
    local = any(file.source == "local" for file in record.files)
    if local and record.ended_early is None and commanded is None and until is not None:
        _judge_local_end(record, until)
    if local or record.ended_early is not None or not ends:
        return
    verdicts = record.verdicts
    lengths = [verdict.duration for verdict in verdicts if verdict.duration is not None]
    if not lengths or len(lengths) < len(record.files):
        return
    # Without evidence from the length, which would be compared with itself.
    first = first_frame(record, manifest, without=["length"]).interval
    expected = _expected_begin(record, None if manifest.start is None else manifest.start.t0_local.unix)
    # If nothing says when it began, it should have by the answer. What is missing may be its begin then.
    if first is None and (record.commanded_at is None or record.accepted_at is None):
        return
    begin = expected if first is None else first.middle
    if begin is None:
        return
    gaps = sum(gap.ended_at.unix - gap.began_at.unix for gap in record.gaps if gap.ended_at is not None)
    at = begin + sum(lengths) + gaps
    missing = min(ends) - at
    tolerance = end_tolerance(
        max(0.0, min(ends) - begin),
        max(verdict.frame_interval for verdict in verdicts),
        bound=(0.0 if first is None else first.bound) + _stop_seconds(record),
        files=len(lengths),
    )
    if missing > tolerance:
        record.ended_early = EarlyEndRecord(
            at=Moment.of(at), seconds=missing, reason="the video is shorter than the recording lasted"
        )


def _judge_local_end(record: CameraRecord, until: float) -> None:
    """Judge a recorder here that received no stop: it ended when its files were written last."""
    last = record.stopped_at
    if last is not None and until - last.unix > HOLE:
        record.ended_early = EarlyEndRecord(
            at=last, seconds=until - last.unix, reason="its recorder ended with the process of the take"
        )


def _stop_seconds(record: CameraRecord) -> float:
    """Return the seconds from the stop to its answer: a busy device may lose that much at the end."""
    if record.stop_commanded_at is None or record.stopped_at is None:
        return 0.0
    return max(0.0, record.stopped_at.unix - record.stop_commanded_at.unix)
