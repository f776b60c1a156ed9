"""When each camera's first frame was: everything that bounds it, intersected. See docs/clocks.md.

Pure functions over a manifest. Evidence is either direct (a recorder here saw the frame, a device was asked
whether it records) and kept in the record, or follows from other fields and is worked out anew each time.
"""

import math
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final, cast, get_args

from asynccam.model.coverage import LENGTH_DRIFT, SINGLE_FRAME_INTERVAL
from asynccam.model.features import AnswerMeaning, RecordingReport
from asynccam.model.info import DRIFT_LIMIT
from asynccam.model.intervals import Interval, combine
from asynccam.model.manifest import (
    CameraRecord,
    EvidenceRecord,
    FileState,
    FirstFrameSource,
    Manifest,
    Moment,
    StartRecord,
    VerdictRecord,
)

SCHEDULE_BOUND: Final = 0.1
"""Seconds by which a device may miss the moment it promised: makers of phones state 50 to 100 ms. Assumed."""
STATUS_LAG: Final = 0.5
"""Seconds for which a device that has its first frame may still say that it does not record. Assumed."""
DEVICE_WORD_BOUND: Final = 0.1
"""Seconds by which a device's word of its first frame may be wrong if it states no bound. Assumed."""

_RELATIVE_WITHIN: Final = 86_400.0
"""Seconds around T0 in which times are told in words as seconds from T0."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One thing that says when a first frame was.

    Attributes:
        source: What it rests on.
        interval: Contains the first frame, Unix seconds of this computer.
        assumed: Whether it rests on an assumption.
        bounds_end: Whether it says until when the first frame was; nothing else closes an interval.
    """

    source: str
    interval: Interval
    assumed: bool = False
    bounds_end: bool = True


@dataclass(frozen=True, slots=True)
class FirstFrame:
    """What all evidence says together.

    Attributes:
        interval: Contains the first frame; None if nothing says until when it was.
        source: The strongest evidence that says until when it was, or None.
        evidence: All there is.
        contradictions: Each two pieces that exclude one another, in words.
    """

    interval: Interval | None
    source: FirstFrameSource | None
    evidence: tuple[Evidence, ...]
    contradictions: tuple[str, ...]


def infer_first_frames(manifest: Manifest) -> None:
    """Work out every camera's first frame anew, with its bound, evidence and contradictions.

    Where nothing says until when the first frame was, its time is null. Manifests of version 1, which do not
    say what an answer means, get the time of an answer only where the system's answers are known to mean
    that the recording has begun.
    """
    for camera in manifest.cameras:
        found = first_frame(camera, manifest)
        camera.evidence = [_record(one) for one in found.evidence]
        camera.contradictions = list(found.contradictions)
        # Kept as the recorder gave it where that is all there is: a middle and a half lose the last digits.
        as_given = camera.first_frame_source in (None, "seen")
        if as_given and found.source == "seen" and not found.contradictions:
            continue
        camera.first_frame_at = None if found.interval is None else Moment.of(found.interval.middle)
        camera.first_frame_bound = None if found.interval is None else found.interval.bound
        camera.first_frame_source = found.source


def first_frame(camera: CameraRecord, manifest: Manifest, *, without: Iterable[str] = ()) -> FirstFrame:
    """Combine all evidence on a camera's first frame; the record is left as it is.

    Args:
        camera: The camera's record.
        manifest: Its take's.
        without: Sources to leave out.
    """
    every = [one for one in _gather(camera, manifest.start) if one.source not in without]
    if not any(one.bounds_end for one in every):
        return FirstFrame(None, None, tuple(every), tuple(_told(camera)))
    pairs = combine((one.source, one.interval) for one in every).contradictions
    disputed = {name for pair in pairs for name in pair}
    used = [one for piece in every if (one := _as_used(piece, every, disputed, manifest.start)) is not None]
    interval = combine((one.source, one.interval) for one in used).interval
    if _began_before_its_start(every):
        # Somebody else had started it, perhaps before our command left, which then bounds nothing.
        since_then = combine(_without_command(camera, manifest.start, without)).interval
        interval = Interval(min(interval.low, since_then.low), max(interval.high, since_then.high))
    told = (*_told(camera), *_in_words(every, pairs, manifest.start))
    closing = [one.source for one in used if one.bounds_end]
    if not closing or not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return FirstFrame(None, None, tuple(every), told)
    source = _strongest(closing)
    return FirstFrame(interval, source, tuple(every), told)


def note_seen(camera: CameraRecord, at: float, bound: float) -> None:
    """Put on record when a recorder on this computer, or the camera itself, saw the first frame."""
    camera.evidence = [one for one in camera.evidence if one.source != "seen"]
    camera.evidence.insert(0, _record(Evidence("seen", Interval.around(at, bound))))
    camera.first_frame_at = Moment.of(at)
    camera.first_frame_bound = bound
    camera.first_frame_source = "seen"


def note_status(camera: CameraRecord, seen: RecordingReport) -> None:
    """Put on record what a device said of its recording when it was asked after the start.

    "Recording" means that the first frame was before the answer came. "Not recording" means that it was not
    before the question left, less `STATUS_LAG`; it counts until the device has said "recording".
    """
    known = next((one for one in camera.evidence if one.source == "status"), None)
    entry = known or EvidenceRecord(source="status")
    if seen.recording:
        if entry.latest is None or seen.answered_at < entry.latest.unix:
            entry.latest = Moment.of(seen.answered_at)
    elif entry.latest is None:
        earlier = 0.0 if entry.earliest is None else entry.earliest.unix
        entry.earliest = Moment.of(max(seen.asked_at - STATUS_LAG, earlier))
    if known is None:
        camera.evidence.append(entry)


# -- the evidence -----------------------------------------------------------------------------------


def _gather(camera: CameraRecord, start: StartRecord | None) -> list[Evidence]:
    seen = _seen(camera)
    here = camera.kind == "still" or any(file.source == "local" for file in camera.files)
    if seen is not None and (here or not camera.files):
        return [seen]  # a recorder here is not bounded by a command: a frame may be older than its way here
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
    others = any(one.bounds_end for one in pieces)
    return pieces + _length(camera, commanded, checked=others)


def _from(camera: CameraRecord, commanded: float | None, latest: float) -> float:
    """The earliest time that goes with evidence of an end: not before the command.

    What recorded already may have begun earlier, but after it was last asked and did not record.
    """
    if commanded is None or camera.already_recording:
        noted = next((one for one in camera.evidence if one.source == "status"), None)
        return -math.inf if noted is None or noted.earliest is None else min(noted.earliest.unix, latest)
    return min(commanded, latest)


def _seen(camera: CameraRecord) -> Evidence | None:
    noted = next((one for one in camera.evidence if one.source == "seen"), None)
    if noted is not None and noted.earliest is not None and noted.latest is not None:
        return Evidence("seen", Interval(noted.earliest.unix, noted.latest.unix))
    if camera.first_frame_at is None or camera.first_frame_source not in (None, "seen"):
        return None
    # As written before there was a list of evidence.
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
    """Return whether it was told in time to begin at T0; a start that came late begins when it can."""
    may = camera.scheduled_for is not None or "scheduled_start" in camera.features
    return may and camera.accepted_at is not None and camera.accepted_at.unix < start.t0_local.unix


def _schedule(camera: CameraRecord, start: StartRecord) -> Evidence:
    """T0, within what makers state, the reference's error, and what the device's clock is off from it."""
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
    frame = _interval_of(camera)
    return Evidence("schedule", Interval(t0 - bound, t0 + bound + frame), assumed=True)


def _status(camera: CameraRecord, commanded: float | None, stopped: float) -> list[Evidence]:
    noted = next((one for one in camera.evidence if one.source == "status"), None)
    if noted is None:
        return []
    latest = None if noted.latest is None else noted.latest.unix
    earliest = -math.inf if noted.earliest is None else noted.earliest.unix
    if latest is None:
        return [Evidence("status", Interval(earliest, max(earliest, stopped)), bounds_end=False)]
    floor = max(earliest, _from(camera, commanded, latest))
    return [Evidence("status", Interval(min(floor, latest), latest))]


def _device(camera: CameraRecord) -> list[Evidence]:
    """The device's own word, by its clock as measured."""
    told = camera.device_first_frame
    if told is None or camera.clock is None:
        return []
    line = camera.clock.line()
    by_ours = told.unix - line.offset(told.unix - camera.clock.offset)
    offset = line.interval(by_ours)
    bound = DEVICE_WORD_BOUND if told.bound is None else told.bound
    # The offset was taken at a time that is wrong by as much itself.
    bound += DRIFT_LIMIT * (bound + offset.bound)
    return [Evidence("device", Interval(told.unix - offset.high - bound, told.unix - offset.low + bound))]


def _length(camera: CameraRecord, commanded: float | None, *, checked: bool) -> list[Evidence]:
    """The stop minus the length of the files.

    The last frame was not after the answer to the stop, which bounds the first one from above. That
    the camera recorded until it was stopped is an assumption. It is made only where other evidence would
    show that it is wrong; else the first frame may have been as early as the command.
    """
    verdicts = [file.verdict for file in camera.files if file.state is FileState.ARRIVED and file.verdict]
    lengths = [one.duration for one in verdicts if one.duration is not None]
    told, stopped = camera.stop_commanded_at, camera.stopped_at
    whole = bool(lengths) and len(lengths) == len(camera.files)
    if not whole or told is None or stopped is None or any(file.source == "local" for file in camera.files):
        return []
    frame = max(_interval(one) for one in verdicts)
    length, took = sum(lengths), max(0.0, stopped.unix - told.unix)
    gaps = sum(gap.ended_at.unix - gap.began_at.unix for gap in camera.gaps if gap.ended_at is not None)
    latest = stopped.unix - length * (1 - LENGTH_DRIFT) + frame
    # As in asynccam.model.coverage: each file may lack its last frame, and a busy device what it has not
    # written when it is stopped.
    earliest = told.unix - took - length * (1 + LENGTH_DRIFT) - frame * len(lengths) - gaps
    # An early end that was judged by the length is no news here.
    ended = any(gap.ended_at is None for gap in camera.gaps) or any(one.is_failure for one in verdicts)
    if (ended or not checked) and commanded is not None:
        earliest = min(earliest, commanded)
    return [Evidence("length", Interval(min(earliest, latest), latest), assumed=True)]


def _interval_of(camera: CameraRecord) -> float:
    verdicts = [file.verdict for file in camera.files if file.state is FileState.ARRIVED and file.verdict]
    return max((_interval(one) for one in verdicts if one.frames), default=0.0)


def _interval(verdict: VerdictRecord) -> float:
    frames = verdict.frames or 0
    return (verdict.duration or 0.0) / frames if frames > 1 else SINGLE_FRAME_INTERVAL


# -- what it says together --------------------------------------------------------------------------


def _as_used(
    piece: Evidence, every: list[Evidence], disputed: Container[str], start: StartRecord | None
) -> Evidence | None:
    """What of a piece of evidence may narrow the interval, beside being what others could contradict.

    A schedule is a promise. A device may break it by starting late, and other evidence that leaves room for
    that does not show it. So a schedule sets no upper end where something else does, or where the device was
    asked after T0 and did not say that it records. It sets a lower end only if a time server tied T0 to true
    time, or if there is nothing else: it is kept by a device's own corrected clock, and says nothing of this
    computer's.
    """
    if piece.source != "schedule" or piece.source in disputed or start is None:
        return piece
    others = any(one.bounds_end for one in every if one.source != "schedule")
    if not others and not _denied_after(every, start.t0_local.unix):
        return piece
    if others and start.source != "ntp":
        return None
    return replace(piece, interval=Interval(piece.interval.low, math.inf), bounds_end=others)


def _denied_after(every: list[Evidence], t0: float) -> bool:
    """Return whether a device was asked after T0 whether it records, and never said that it does."""
    status = next((one for one in every if one.source == "status"), None)
    return status is not None and not status.bounds_end and status.interval.low + STATUS_LAG > t0


def _began_before_its_start(every: list[Evidence]) -> bool:
    """Return whether a file is longer than its stop minus what else is known of its first frame."""
    length = next((one for one in every if one.source == "length"), None)
    return length is not None and any(length.interval.high < one.interval.low for one in every)


def _without_command(
    camera: CameraRecord, start: StartRecord | None, without: Iterable[str]
) -> Iterator[tuple[str, Interval]]:
    """All evidence as if the command had not started it; what has no lower end has the length's."""
    noted = [record.model_copy() for record in camera.evidence]
    for record in noted:
        if record.source == "status" and record.earliest == camera.commanded_at:
            record.earliest = None  # the command's, and not the device's word
    others = camera.model_copy(update={"already_recording": True, "evidence": noted})
    pieces = [one for one in _gather(others, start) if one.source not in without]
    floor = min(one.interval.low for one in pieces if one.source == "length")
    for one in pieces:
        interval = one.interval
        yield one.source, replace(interval, low=max(interval.low, min(floor, interval.high)))


def _strongest(sources: Iterable[str]) -> FirstFrameSource:
    """The kind of evidence that is closest to the frame itself."""
    order = get_args(FirstFrameSource)
    return cast("FirstFrameSource", min(sources, key=order.index))


def _told(camera: CameraRecord) -> list[str]:
    """What is at odds whatever the evidence here says together."""
    already = ["it said at its start that it was recording already"] if camera.already_recording else []
    return [*already, *camera.contradictions_seen]


def _in_words(
    every: list[Evidence], pairs: Iterable[tuple[str, str]], start: StartRecord | None
) -> list[str]:
    by_name = {one.source: one for one in every}
    zero = None if start is None else start.t0_local.unix
    return [
        f"{one} ({_span(by_name[one].interval, zero)}) and {other} ({_span(by_name[other].interval, zero)})"
        f" exclude one another"
        for one, other in pairs
    ]


def _span(interval: Interval, zero: float | None) -> str:
    def said(moment: float) -> str:
        if not math.isfinite(moment):
            return "any time"
        if zero is None or abs(moment - zero) > _RELATIVE_WITHIN:
            return Moment.of(moment).utc
        return f"T0{moment - zero:+.3f} s"

    return f"{said(interval.low)} to {said(interval.high)}"


def _record(piece: Evidence) -> EvidenceRecord:
    low, high = piece.interval.low, piece.interval.high
    open_ended = not piece.bounds_end or not math.isfinite(high)
    return EvidenceRecord(
        source=piece.source,
        earliest=Moment.of(low) if math.isfinite(low) else None,
        latest=None if open_ended else Moment.of(high),
        assumed=piece.assumed,
    )
