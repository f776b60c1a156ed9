"""First frame, coverage, gaps and outcome of each camera's part. See docs/clocks.md and docs/recording.md.

Pure functions over a manifest. The time of a first frame is the intersection of all evidence that bounds it.
Evidence is either direct (a recorder here saw the frame, a device was asked whether it records) and kept in
the record, or computed each time from other fields.
"""

import math
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, cast, get_args

from asynccam.model.coverage import (
    HOLE,
    LENGTH_DRIFT,
    MOST_REACTION,
    begin_tolerance,
    end_tolerance,
    is_hole,
)
from asynccam.model.features import AnswerMeaning, RecordingReport
from asynccam.model.info import DRIFT_LIMIT, CheckResult, ReportsOutages
from asynccam.model.intervals import Interval, combine
from asynccam.model.manifest import (
    CameraRecord,
    EarlyEndRecord,
    EvidenceRecord,
    FileRecord,
    FileState,
    FirstFrameSource,
    GapRecord,
    LateBeginRecord,
    Manifest,
    Moment,
    Outcome,
    PauseRecord,
    StartRecord,
)

SCHEDULE_BOUND: Final = 0.1
"""Seconds by which a device may miss its scheduled start: makers of phones state 50 to 100 ms. Assumed."""
STATUS_LAG: Final = 0.5
"""Seconds for which a device that has its first frame may still say that it does not record. Assumed."""
DEVICE_REPORT_BOUND: Final = 0.1
"""Seconds by which a device's report of its first frame may be wrong if it states no bound. Assumed."""

_RELATIVE_WITHIN: Final = 86_400.0
"""Seconds around T0 in which texts give times as seconds from T0."""
_OBSERVED: Final = ("seen", "device", "status", "length")
"""Sources of a first frame that may be late; one that is inferred from the start itself cannot be."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One piece of evidence on the time of a first frame."""

    source: str  # kind of evidence, as in `EvidenceRecord`
    interval: Interval  # contains the first frame, Unix seconds of this computer
    assumed: bool = False  # whether it rests on an assumption
    bounds_end: bool = True  # whether it has an upper limit of its own; nothing else closes an interval


@dataclass(frozen=True, slots=True)
class FirstFrame:
    """Time of a first frame by all evidence."""

    interval: Interval | None  # contains the first frame; None without an upper limit
    source: FirstFrameSource | None  # the strongest evidence with an upper limit, or None
    evidence: tuple[Evidence, ...]
    contradictions: tuple[str, ...]  # pairs of evidence that exclude one another, in words


def recorded_here(camera: CameraRecord) -> bool:
    """Return whether a recorder on this computer made the camera's files."""
    return any(file.source == "local" for file in camera.files)


def infer_first_frames(manifest: Manifest) -> None:
    """Compute the first frame of every camera, see `infer_first_frame`."""
    for camera in manifest.cameras:
        infer_first_frame(camera, manifest)


def infer_first_frame(camera: CameraRecord, manifest: Manifest) -> None:
    """Compute a camera's first frame, with its bound, evidence and contradictions.

    Without an upper limit the time is null. Manifests of version 1, which do not say what an answer means,
    get the time of an answer only if the system's answers are known to mean that the recording has begun.
    """
    found = first_frame(camera, manifest)
    camera.evidence = [_record(piece) for piece in found.evidence]
    camera.contradictions = list(found.contradictions)
    # Kept as the recorder gave it where that is all there is: a middle and a half lose the last digits.
    as_given = camera.first_frame_source in (None, "seen")
    if as_given and found.source == "seen" and not found.contradictions:
        return
    camera.first_frame_at = None if found.interval is None else Moment.of(found.interval.middle)
    camera.first_frame_bound = None if found.interval is None else found.interval.bound
    camera.first_frame_source = found.source


def first_frame(camera: CameraRecord, manifest: Manifest, *, without: Iterable[str] = ()) -> FirstFrame:
    """Combine all evidence on a camera's first frame, except the sources ``without``.

    The record is not changed.
    """
    evidence = tuple(piece for piece in _gather(camera, manifest.start) if piece.source not in without)
    if not any(piece.bounds_end for piece in evidence):
        return FirstFrame(None, None, evidence, tuple(_known_contradictions(camera)))
    pairs = combine((piece.source, piece.interval) for piece in evidence).contradictions
    disputed = {name for pair in pairs for name in pair}
    used = [
        narrowed
        for piece in evidence
        if (narrowed := _as_used(piece, evidence, disputed, manifest.start)) is not None
    ]
    interval = combine((piece.source, piece.interval) for piece in used).interval
    if _began_before_its_start(evidence):
        # Another controller had started it, perhaps before our command left, which then bounds nothing.
        since_then = combine(_without_command(camera, manifest.start, without)).interval
        interval = Interval(min(interval.low, since_then.low), max(interval.high, since_then.high))
    contradictions = (*_known_contradictions(camera), *_in_words(evidence, pairs, manifest.start))
    closing = [piece.source for piece in used if piece.bounds_end]
    if not closing or not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return FirstFrame(None, None, evidence, contradictions)
    # The sources are in this order: the first is the one closest to the frame itself.
    strongest = min(closing, key=get_args(FirstFrameSource).index)
    return FirstFrame(interval, cast("FirstFrameSource", strongest), evidence, contradictions)


def note_seen(camera: CameraRecord, at: float, bound: float) -> None:
    """Record when a recorder on this computer, or the camera itself, saw the first frame."""
    camera.evidence = [piece for piece in camera.evidence if piece.source != "seen"]
    camera.evidence.insert(0, _record(Evidence("seen", Interval.around(at, bound))))
    camera.first_frame_at = Moment.of(at)
    camera.first_frame_bound = bound
    camera.first_frame_source = "seen"


def note_status(camera: CameraRecord, seen: RecordingReport) -> None:
    """Record a device's report of its recording after the start.

    "Recording" means that the first frame was before the answer arrived. "Not recording" means that it was
    not before the question left, less `STATUS_LAG`; it counts until the device has reported "recording".
    """
    known = _status_evidence(camera)
    entry = known or EvidenceRecord(source="status")
    if seen.recording:
        if entry.latest is None or seen.answered_at < entry.latest.unix:
            entry.latest = Moment.of(seen.answered_at)
    elif entry.latest is None:
        earlier = 0.0 if entry.earliest is None else entry.earliest.unix
        entry.earliest = Moment.of(max(seen.asked_at - STATUS_LAG, earlier))
    if known is None:
        camera.evidence.append(entry)


def _status_evidence(camera: CameraRecord) -> EvidenceRecord | None:
    return next((piece for piece in camera.evidence if piece.source == "status"), None)


# -- the evidence -----------------------------------------------------------------------------------


def _gather(camera: CameraRecord, start: StartRecord | None) -> list[Evidence]:
    seen = _seen(camera)
    here = camera.kind == "still" or recorded_here(camera)
    if seen is not None and (here or not camera.files):
        return [seen]  # not bounded by a command: a frame may have been made before it and arrive after it
    pieces = [seen] if seen is not None else []
    stopped = math.inf if camera.stopped_at is None else camera.stopped_at.unix
    commanded = None if camera.commanded_at is None else camera.commanded_at.unix
    if commanded is not None and not camera.already_recording and seen is None:
        pieces.append(Evidence("command", Interval(commanded, max(commanded, stopped)), bounds_end=False))
    if camera.accepted_at is not None:
        if _meaning(camera) is AnswerMeaning.RECORDING:
            latest = camera.accepted_at.unix
            pieces.append(Evidence("answer", Interval(_from(camera, commanded, latest), latest)))
        if start is not None and _was_scheduled(camera, start):
            pieces.append(_schedule(camera, start))
        pieces += _status(camera, commanded, stopped)
        pieces += _device(camera)
    others = any(piece.bounds_end for piece in pieces)
    return pieces + _length(camera, commanded, checked=others)


def _from(camera: CameraRecord, commanded: float | None, latest: float) -> float:
    """Return the lower limit that belongs to an upper one: not before the command.

    A camera that recorded already may have begun earlier, but after it last reported that it did not.
    """
    if commanded is None or camera.already_recording:
        noted = _status_evidence(camera)
        return -math.inf if noted is None or noted.earliest is None else min(noted.earliest.unix, latest)
    return min(commanded, latest)


def _seen(camera: CameraRecord) -> Evidence | None:
    noted = next((piece for piece in camera.evidence if piece.source == "seen"), None)
    if noted is not None and noted.earliest is not None and noted.latest is not None:
        return Evidence("seen", Interval(noted.earliest.unix, noted.latest.unix))
    if camera.first_frame_at is None or camera.first_frame_source not in (None, "seen"):
        return None
    # Manifests of version 1 have no list of evidence.
    return Evidence("seen", Interval.around(camera.first_frame_at.unix, camera.first_frame_bound or 0.0))


def _meaning(camera: CameraRecord) -> AnswerMeaning:
    if camera.answer_meaning is not None:
        return AnswerMeaning(camera.answer_meaning)
    # Version 1. Of its systems without a recorder here, only a service of generation 1 (which names cameras
    # by their device files) is known to answer once its recorder is up; a MultiCam status may be one that
    # was asked for later than the answer came.
    first_generation = camera.system == "mediamtx" and camera.serial.startswith("/dev/")
    begun = first_generation and camera.start_status.upper() == "STARTED"
    return AnswerMeaning.RECORDING if begun else AnswerMeaning.HEARD


def _was_scheduled(camera: CameraRecord, start: StartRecord) -> bool:
    """Return whether the camera accepted its schedule before T0; later ones begin when they can."""
    may = camera.scheduled_for is not None or "scheduled_start" in camera.features
    return may and camera.accepted_at is not None and camera.accepted_at.unix < start.t0_local.unix


def _schedule(camera: CameraRecord, start: StartRecord) -> Evidence:
    """Return T0, within what makers state, the reference's error, and the offset of the device's clock."""
    t0 = start.t0_local.unix
    reference = Interval(0.0, 0.0)
    if start.clock is not None:
        reference = start.clock.line().interval(t0)
        if len(start.clock.points) > 1:  # what was sent, by all that is known of the reference by now
            t0 = start.t0.unix - reference.middle
    bound = SCHEDULE_BOUND + reference.bound
    if camera.clock is not None:
        # Compared on the scale that T0 is on: a time server's, or this computer's.
        clock = camera.clock.line().interval(t0).shifted(-reference.middle)
        bound += max(abs(clock.low), abs(clock.high))
    frame = max((verdict.frame_interval for verdict in camera.verdicts if verdict.frames), default=0.0)
    return Evidence("schedule", Interval(t0 - bound, t0 + bound + frame), assumed=True)


def _status(camera: CameraRecord, commanded: float | None, stopped: float) -> list[Evidence]:
    noted = _status_evidence(camera)
    if noted is None:
        return []
    latest = None if noted.latest is None else noted.latest.unix
    earliest = -math.inf if noted.earliest is None else noted.earliest.unix
    if latest is None:
        return [Evidence("status", Interval(earliest, max(earliest, stopped)), bounds_end=False)]
    floor = max(earliest, _from(camera, commanded, latest))
    return [Evidence("status", Interval(min(floor, latest), latest))]


def _device(camera: CameraRecord) -> list[Evidence]:
    """Return the device's report, converted by its clock as measured."""
    reported = camera.device_first_frame
    if reported is None or camera.clock is None:
        return []
    line = camera.clock.line()
    offset = line.interval(reported.unix - line.offset(reported.unix - camera.clock.offset))
    bound = DEVICE_REPORT_BOUND if reported.bound is None else reported.bound
    # The offset was taken at a time that is wrong by as much itself.
    bound += DRIFT_LIMIT * (bound + offset.bound)
    interval = Interval(reported.unix - offset.high - bound, reported.unix - offset.low + bound)
    return [Evidence("device", interval)]


def _length(camera: CameraRecord, commanded: float | None, *, checked: bool) -> list[Evidence]:
    """Return the stop minus the length of the files.

    The last frame was not after the answer to the stop, which bounds the first one from above. That
    the camera recorded until it was stopped is an assumption. It is made only if other evidence would
    show that it is wrong; else the first frame may have been as early as the command.
    """
    verdicts = camera.verdicts
    lengths = [verdict.duration for verdict in verdicts if verdict.duration is not None]
    stop_sent, stopped = camera.stop_commanded_at, camera.stopped_at
    whole = bool(lengths) and len(lengths) == len(camera.files)
    local = recorded_here(camera)
    if not whole or stop_sent is None or stopped is None or local:
        return []
    frame = max(verdict.frame_interval for verdict in verdicts)
    length, took = sum(lengths), max(0.0, stopped.unix - stop_sent.unix)
    gaps = sum(gap.ended_at.unix - gap.began_at.unix for gap in camera.gaps if gap.ended_at is not None)
    latest = stopped.unix - length * (1 - LENGTH_DRIFT) + frame
    # As in asynccam.model.coverage: each file may lack its last frame, and a busy device may lose what it has
    # not written when it is stopped.
    earliest = stop_sent.unix - took - length * (1 + LENGTH_DRIFT) - frame * len(lengths) - gaps
    # An early end that was judged by the length is no evidence against the length.
    ended = any(gap.ended_at is None for gap in camera.gaps) or any(each.is_failure for each in verdicts)
    if (ended or not checked) and commanded is not None:
        earliest = min(earliest, commanded)
    return [Evidence("length", Interval(min(earliest, latest), latest), assumed=True)]


# -- all evidence together --------------------------------------------------------------------------


def _as_used(
    piece: Evidence, evidence: Sequence[Evidence], disputed: Container[str], start: StartRecord | None
) -> Evidence | None:
    """Return the part of a piece of evidence that may narrow the interval; only a schedule is limited.

    A device may start later than scheduled, without a contradiction to the other evidence. So a schedule sets
    no upper limit if other evidence does, or if the device reported after T0 that it does not record. It sets
    a lower limit only if a time server tied T0 to true time, or if there is nothing else: it is kept by the
    device's own corrected clock, which says nothing of this computer's.
    """
    if piece.source != "schedule" or piece.source in disputed or start is None:
        return piece
    others = any(each.bounds_end for each in evidence if each.source != "schedule")
    if not others and not _denied_after(evidence, start.t0_local.unix):
        return piece
    if others and start.source != "ntp":
        return None
    return replace(piece, interval=Interval(piece.interval.low, math.inf), bounds_end=others)


def _denied_after(evidence: Sequence[Evidence], t0: float) -> bool:
    """Return whether a device reported after T0 that it does not record, and never that it does."""
    status = next((piece for piece in evidence if piece.source == "status"), None)
    return status is not None and not status.bounds_end and status.interval.low + STATUS_LAG > t0


def _began_before_its_start(evidence: Sequence[Evidence]) -> bool:
    """Return whether the files are too long for what else is known of the first frame."""
    length = next((piece for piece in evidence if piece.source == "length"), None)
    return length is not None and any(length.interval.high < piece.interval.low for piece in evidence)


def _without_command(
    camera: CameraRecord, start: StartRecord | None, without: Iterable[str]
) -> Iterator[tuple[str, Interval]]:
    """Yield all evidence as if the command had not started it, with the length's lower limit."""
    noted = [record.model_copy() for record in camera.evidence]
    for record in noted:
        if record.source == "status" and record.earliest == camera.commanded_at:
            record.earliest = None  # taken from the command, not reported by the device
    others = camera.model_copy(update={"already_recording": True, "evidence": noted})
    pieces = [piece for piece in _gather(others, start) if piece.source not in without]
    floor = min(piece.interval.low for piece in pieces if piece.source == "length")
    for piece in pieces:
        interval = piece.interval
        yield piece.source, replace(interval, low=max(interval.low, min(floor, interval.high)))


def _known_contradictions(camera: CameraRecord) -> list[str]:
    """Return the contradictions that do not follow from the evidence here."""
    already = ["it said at its start that it was recording already"] if camera.already_recording else []
    return [*already, *camera.contradictions_seen]


def _in_words(
    evidence: Sequence[Evidence], pairs: Iterable[tuple[str, str]], start: StartRecord | None
) -> list[str]:
    t0 = None if start is None else start.t0_local.unix
    spans = {piece.source: f"{piece.source} ({_span(piece.interval, t0)})" for piece in evidence}
    return [f"{spans[first]} and {spans[second]} exclude one another" for first, second in pairs]


def _span(interval: Interval, t0: float | None) -> str:
    def text(moment: float) -> str:
        if not math.isfinite(moment):
            return "any time"
        if t0 is None or abs(moment - t0) > _RELATIVE_WITHIN:
            return Moment.of(moment).utc
        return f"T0{moment - t0:+.3f} s"

    return f"{text(interval.low)} to {text(interval.high)}"


def _record(piece: Evidence) -> EvidenceRecord:
    low, high = piece.interval.low, piece.interval.high
    open_ended = not piece.bounds_end or not math.isfinite(high)
    return EvidenceRecord(
        source=piece.source,
        earliest=Moment.of(low) if math.isfinite(low) else None,
        latest=None if open_ended else Moment.of(high),
        assumed=piece.assumed,
    )


# -- the outcome ------------------------------------------------------------------------------------


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
    if not recorded_here(record):
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

    A recorder on this computer judges the end itself, more closely, at its stop; its judgement is used.

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
    local = recorded_here(record)
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
