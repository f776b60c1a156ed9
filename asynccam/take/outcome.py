"""Whether the videos of a camera cover the stretch of time that a take asked for. See docs/recording.md.

A recorder on this computer tells this by itself, more closely, at its stop.
"""

from typing import Final

from asynccam.model.coverage import (
    HOLE,
    MOST_REACTION,
    SINGLE_FRAME_INTERVAL,
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
    VerdictRecord,
)
from asynccam.take.timing import SCHEDULE_BOUND, first_frame, note_seen

_PROVEN: Final = ("seen", "device", "status", "length")
"""What a late first frame can rest on; one that is inferred from the start itself cannot be late."""


def judge_coverage(record: CameraRecord, manifest: Manifest, until: float | None) -> None:
    """Put it on record if a camera's video begins clearly after the start, or ends clearly before the stop.

    Nothing is said where the time of the first frame or the length of a file is not known.

    Args:
        record: Of a camera whose files are here.
        manifest: Of its take.
        until: When the take's recording was over, Unix seconds of this computer, or None if nobody knows.
    """
    if record.kind == "still" or not any(file.state is FileState.ARRIVED for file in record.files):
        return
    _judge_begin(record, None if manifest.start is None else manifest.start.t0_local.unix)
    _judge_end(record, manifest, until)


def note_hole(record: CameraRecord, file: FileRecord, finding: CheckResult) -> None:
    """Put it on record if frames stay away in the middle of a file, and nothing on record says so.

    Where in the file that is, the finding does not tell: somewhere after the first frame. If the recorder was
    on this computer, the frames before the hole may have waited for T0, and are then older by as much.
    """
    if record.kind == "still" or not isinstance(finding, ReportsOutages):
        return
    longest = finding.longest
    if longest is None or not is_hole(longest, finding.interval):
        return
    began = record.first_frame_at or record.commanded_at
    told = any(gap.ended_at is None or gap.ended_at.unix - gap.began_at.unix > HOLE for gap in record.gaps)
    if told or began is None:
        return
    reason = f"{longest:.1f} s without a frame, somewhere in {file.name}"
    record.gaps.append(GapRecord(began_at=began, reason=reason))
    if file.source == "local" and record.first_frame_at is not None and record.first_frame_source == "seen":
        half = longest / 2
        note_seen(record, record.first_frame_at.unix - half, (record.first_frame_bound or 0.0) + half)


def _judge_begin(record: CameraRecord, t0: float | None) -> None:
    """Judge by a first frame that is known from more than the start."""
    first = record.first_frame_at
    if first is None or record.first_frame_source not in _PROVEN or record.begins_late is not None:
        return
    asked_at = _asked_at(record, t0)
    if asked_at is None:
        return
    interval = max((_interval(one) for one in _verdicts(record)), default=0.0)
    missing = first.unix - asked_at
    bound = record.first_frame_bound or 0.0
    if record.scheduled_for is not None and record.first_frame_source != "seen":
        bound += SCHEDULE_BOUND  # a device that is as late as its maker allows has kept its promise
    if missing > begin_tolerance(interval, bound=bound):
        record.begins_late = LateBeginRecord(
            at=first, seconds=missing, reason="its first frame came after the start"
        )


def _asked_at(record: CameraRecord, t0: float | None) -> float | None:
    # A camera without a schedule begins between the command and its answer, if that comes promptly.
    told, answered = record.commanded_at, record.accepted_at
    starts = [moment.unix for moment in (told, answered) if moment is not None]
    if record.scheduled_for is not None:
        starts = []
    elif told is not None and answered is not None and answered.unix - told.unix > MOST_REACTION:
        starts = [told.unix]
    return max([*starts, *([] if t0 is None else [t0])], default=None)


def _judge_end(record: CameraRecord, manifest: Manifest, until: float | None) -> None:
    """Judge a device's files by their length."""
    told = record.stop_commanded_at
    ends = [end for end in (until, None if told is None else told.unix) if end is not None]
    here = any(file.source == "local" for file in record.files)
    if here and record.ended_early is None and told is None and until is not None:
        _judge_death(record, until)
    if here or record.ended_early is not None or not ends:
        return
    verdicts = _verdicts(record)
    lengths = [one.duration for one in verdicts if one.duration is not None]
    if not lengths or len(lengths) < len(record.files):
        return
    # Not by a first frame that follows from the length.
    first = first_frame(record, manifest, without=["length"]).interval
    asked_at = _asked_at(record, None if manifest.start is None else manifest.start.t0_local.unix)
    # If nothing says when it began, it should have by the answer. What is missing may be its begin then.
    if first is None and (record.commanded_at is None or record.accepted_at is None):
        return
    begin = asked_at if first is None else first.middle
    if begin is None:
        return
    gaps = sum(gap.ended_at.unix - gap.began_at.unix for gap in record.gaps if gap.ended_at is not None)
    at = begin + sum(lengths) + gaps
    missing = min(ends) - at
    tolerance = end_tolerance(
        max(0.0, min(ends) - begin),
        max(_interval(one) for one in verdicts),
        bound=(0.0 if first is None else first.bound) + _stop_bound(record),
        files=len(lengths),
    )
    if missing > tolerance:
        record.ended_early = EarlyEndRecord(
            at=Moment.of(at), seconds=missing, reason="the video is shorter than the recording lasted"
        )


def _judge_death(record: CameraRecord, until: float) -> None:
    """Judge a recorder here that nobody stopped: it ended when its files were written last."""
    last = record.stopped_at
    if last is not None and until - last.unix > HOLE:
        record.ended_early = EarlyEndRecord(
            at=last, seconds=until - last.unix, reason="its recorder ended with the process of the take"
        )


def _verdicts(record: CameraRecord) -> list[VerdictRecord]:
    return [file.verdict for file in record.files if file.state is FileState.ARRIVED and file.verdict]


def _interval(verdict: VerdictRecord) -> float:
    frames = verdict.frames or 0
    return (verdict.duration or 0.0) / frames if frames > 1 else SINGLE_FRAME_INTERVAL


def _stop_bound(record: CameraRecord) -> float:
    """Seconds from the command to the answer: a busy device may lose so much of what it has not written."""
    if record.stop_commanded_at is None or record.stopped_at is None:
        return 0.0
    return max(0.0, record.stopped_at.unix - record.stop_commanded_at.unix)


def outcome_of(camera: CameraRecord, unfinished: Outcome, *, late: bool = False) -> Outcome:
    """How one camera's part ended.

    Args:
        camera: Its record.
        unfinished: The word for one that left no file.
        late: Whether its start left too late, see `Manifest.started_late`.
    """
    home = [file for file in camera.files if file.state is FileState.ARRIVED]
    if not home:
        # One that records for somebody else was sent no stop, and has a recording that is not this take's.
        left_alone = camera.already_recording and camera.stop_commanded_at is None
        return Outcome.INCOMPLETE if left_alone and unfinished is Outcome.FAILED else unfinished
    whole = not any(file.verdict is not None and file.verdict.is_failure for file in home)
    covered = camera.begins_late is None and camera.ended_early is None
    whole = whole and not camera.gaps and covered and not late and not camera.contradictions
    answered = camera.accepted_at is not None and camera.stopped_at is not None
    return Outcome.COMPLETE if whole and answered and len(home) == len(camera.files) else Outcome.INCOMPLETE


def outcome_of_all(manifest: Manifest) -> Outcome:
    """How a take ended whose cameras' parts ended so: never complete while one of them was missing."""
    outcomes = {camera.outcome for camera in manifest.cameras}
    outcome = outcomes.pop() if len(outcomes) == 1 else Outcome.INCOMPLETE
    return Outcome.INCOMPLETE if manifest.missing and outcome is Outcome.COMPLETE else outcome
