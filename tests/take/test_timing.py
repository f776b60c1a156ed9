"""First frames from evidence: what is stated contains the truth, and one lie is named and covered."""

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asynccam.model.features import RecordingReport
from asynccam.model.info import ClockOffset
from asynccam.model.manifest import (
    CameraRecord,
    ClockRecord,
    DeviceMomentRecord,
    FileRecord,
    FileState,
    Manifest,
    Moment,
    Outcome,
    StartRecord,
    VerdictRecord,
)
from asynccam.take import align_take
from asynccam.take.outcome import (
    SCHEDULE_BOUND,
    first_frame,
    infer_first_frames,
    note_seen,
    note_status,
    outcome_of,
)

T0 = 1_800_000_000.0
FRAME = 1 / 30
TAKES = Path(__file__).parent / "data" / "takes-version-1"


def at(seconds: float) -> Moment:
    return Moment.of(T0 + seconds)


def clock(offset: float = 0.0, bound: float = 0.001, when: float = -3.0) -> ClockRecord:
    return ClockRecord.of(ClockOffset(offset, bound, 2 * bound, 8, T0 + when))


def video(seconds: float, verdict: str = "complete") -> FileRecord:
    found = VerdictRecord(verdict=verdict, frames=round(seconds / FRAME), duration=seconds)
    return FileRecord(name="a.mp4", source="device", state=FileState.ARRIVED, path="a/a.mp4", verdict=found)


def camera(**facts: Any) -> CameraRecord:
    """A device that was told at T0 to start, and stopped five seconds later."""
    told: dict[str, Any] = {
        "commanded_at": at(0.0),
        "accepted_at": at(0.004),
        "stop_commanded_at": at(5.0),
        "stopped_at": at(5.02),
    }
    return CameraRecord(id="x://a", name="a", system="x", directory="a", **{**told, **facts})


def scheduled(**facts: Any) -> CameraRecord:
    told = {"commanded_at": at(-3.0), "accepted_at": at(-2.99), "scheduled_for": at(0.0)}
    return camera(features=["scheduled_start"], answer_meaning="scheduled", **{**told, **facts})


def take(*cameras: CameraRecord, ntp: ClockRecord | None = None) -> Manifest:
    source = "system" if ntp is None else "ntp"
    start = StartRecord(t0=at(0.0), t0_local=at(0.0), source=source, clock=ntp, start_in=3.0)
    return Manifest(
        take="t", phase="done", created_at=at(-4), written_at=at(9), start=start, cameras=list(cameras)
    )


def inferred(record: CameraRecord, ntp: ClockRecord | None = None) -> CameraRecord:
    manifest = take(record, ntp=ntp)
    infer_first_frames(manifest)
    before = manifest.model_copy(deep=True)
    infer_first_frames(manifest)
    assert manifest == before  # from what is written down, the same follows again
    return manifest.cameras[0]


def contains(record: CameraRecord, truth: float) -> bool:
    assert record.first_frame_at is not None
    assert record.first_frame_bound is not None
    return abs(record.first_frame_at.unix - T0 - truth) <= record.first_frame_bound + 1e-6


# -- the rows -------------------------------------------------------------------------------------


def test_answer_that_was_only_heard_sets_no_upper_limit() -> None:
    record = inferred(camera(answer_meaning="heard"))
    assert (record.first_frame_at, record.first_frame_bound, record.first_frame_source) == (None, None, None)
    assert [(one.source, one.latest, one.assumed) for one in record.evidence] == [("command", None, False)]


def test_answer_that_recording_began_sets_an_upper_limit() -> None:
    record = inferred(camera(answer_meaning="recording"))
    assert (record.first_frame_source, record.contradictions) == ("answer", [])
    assert record.first_frame_bound == pytest.approx(0.002, abs=1e-6)
    assert contains(record, 0.003)


def test_service_with_an_early_answer_is_bounded_by_its_file() -> None:
    record = inferred(camera(answer_meaning="heard", files=[video(3.8)]))
    assert record.first_frame_source == "length"
    assert contains(record, 1.2)
    assert record.contradictions == []


def test_file_that_ends_early_is_not_judged_a_late_begin() -> None:
    """It began at once and lost its last two seconds; a stop minus its length would say T0 + 2 s."""
    assert contains(inferred(camera(answer_meaning="heard", files=[video(3.0)])), 0.01)


def test_status_bounds_a_phone_that_opens_late() -> None:
    record = camera(answer_meaning="heard")
    for asked, recording in ((0.1, False), (1.3, False), (1.6, True), (1.9, True)):
        note_status(record, RecordingReport(T0 + asked, T0 + asked + 0.002, recording))
    record = inferred(record)
    assert (record.first_frame_source, record.contradictions) == ("status", [])
    assert contains(record, 1.504)
    assert record.first_frame_bound is not None
    assert record.first_frame_bound < 0.5


def test_late_scheduled_start_is_a_contradiction() -> None:
    record = inferred(scheduled(files=[video(3.6)]))
    assert contains(record, 1.4)
    assert contains(record, 0.0)
    (told,) = record.contradictions
    assert told.startswith("schedule (T0-0.100 s to T0+0.133 s) and length (T0+1.")
    assert outcome_of(record, Outcome.FAILED) is Outcome.INCOMPLETE


def test_schedule_beside_a_status_counts_only_with_a_time_server() -> None:
    """A device that is a second off, whose clocks that can be asked agree with ours."""
    early = scheduled(clock=clock())
    note_status(early, RecordingReport(T0 - 0.6, T0 - 0.598, recording=False))
    note_status(early, RecordingReport(T0 + 0.1, T0 + 0.102, recording=True))
    alone = inferred(early)
    assert alone.first_frame_source == "status"
    assert contains(alone, -1.0)
    tied = inferred(early.model_copy(deep=True), ntp=clock(0.0))
    assert tied.first_frame_source == "schedule"
    assert tied.first_frame_bound == pytest.approx(SCHEDULE_BOUND, abs=0.01)


@pytest.mark.parametrize("ntp", [None, clock(0.0)])
def test_schedule_sets_no_upper_limit_of_its_own(ntp: ClockRecord | None) -> None:
    """Its start was 0.3 s late. The stop took 1.2 s, so the length of its file does not show it."""
    late = scheduled(clock=clock(), stopped_at=at(6.2), files=[video(4.7)])
    note_status(late, RecordingReport(T0 - 0.5, T0 - 0.498, recording=False))
    note_status(late, RecordingReport(T0 + 0.1, T0 + 0.102, recording=False))
    note_status(late, RecordingReport(T0 + 0.4, T0 + 0.402, recording=True))
    record = inferred(late, ntp=ntp)
    assert record.contradictions == []
    assert contains(record, 0.3)
    assert record.first_frame_bound is not None
    assert record.first_frame_bound < 0.41


def test_schedule_denied_by_the_device_is_not_evidence() -> None:
    late = scheduled(clock=clock())
    note_status(late, RecordingReport(T0 - 0.5, T0 - 0.498, recording=False))
    assert inferred(late.model_copy(deep=True)).first_frame_source == "schedule"
    note_status(late, RecordingReport(T0 + 0.1, T0 + 0.102, recording=False))
    record = inferred(late)
    assert (record.first_frame_at, record.first_frame_bound, record.first_frame_source) == (None, None, None)


def test_device_clock_ahead_of_ours_is_bounded_by_seen_frames() -> None:
    """It began 0.3 s before T0. No time server tied T0 to its clock, and the stop took a second."""
    early = scheduled(clock=clock(), stopped_at=at(6.0), files=[video(5.3)])
    note_status(early, RecordingReport(T0 + 0.1, T0 + 0.102, recording=True))
    record = inferred(early)
    assert (record.first_frame_source, record.contradictions) == ("status", [])
    assert contains(record, -0.3)


def test_device_recording_before_its_schedule() -> None:
    early = scheduled(clock=clock())
    note_status(early, RecordingReport(T0 - 0.5, T0 - 0.498, recording=True))
    record = inferred(early)
    assert contains(record, -1.0)
    assert len(record.contradictions) == 1


def test_devices_are_compared_with_the_clock_that_t0_is_on() -> None:
    """Both the device and the time server are 1.005 s ahead of this computer, within some milliseconds."""
    record = scheduled(clock=clock(1.005), files=[video(5.0)])
    tied = inferred(record, ntp=clock(1.013))
    assert tied.first_frame_bound is not None
    assert tied.first_frame_bound < 0.15
    assert contains(tied, 0.008)
    alone = scheduled(clock=clock(1.005))
    assert contains(inferred(alone), -1.005)


def test_file_longer_than_its_recording_began_before() -> None:
    record = inferred(scheduled(stop_commanded_at=at(4.0), stopped_at=at(4.08), files=[video(7.03)]))
    assert contains(record, -3.03)
    assert any("schedule" in told and "length" in told for told in record.contradictions)
    assert outcome_of(record, Outcome.FAILED) is Outcome.INCOMPLETE


def test_command_after_another_controllers_start_bounds_nothing() -> None:
    """It films since T0 - 1.09 s, the start left at T0 - 0.8 s, and the stop took long."""
    told = {
        "commanded_at": at(-0.8),
        "accepted_at": at(-0.79),
        "stop_commanded_at": at(0.5),
        "stopped_at": at(0.95),
    }
    early = scheduled(clock=clock(), files=[video(1.6)], **told)
    note_status(early, RecordingReport(T0 + 0.1, T0 + 0.102, recording=True))
    record = inferred(early)
    assert contains(record, -1.09)
    assert any("schedule" in told and "length" in told for told in record.contradictions)


def test_device_already_recording_is_a_contradiction() -> None:
    record = camera(
        features=["scheduled_start"],
        commanded_at=at(-3.0),
        accepted_at=at(-2.99),
        answer_meaning="recording",
        already_recording=True,
    )
    note_status(record, RecordingReport(T0 - 3.4, T0 - 3.39, recording=False))
    record = inferred(record)
    assert contains(record, -3.03)
    assert record.contradictions[0] == "it said at its start that it was recording already"
    assert len(record.contradictions) == 2


def test_device_report_is_converted_by_its_clock() -> None:
    first, last = clock(1.0, when=-3.0), clock(1.0 + 100e-6 * 603, when=600.0)
    line = first.with_measurement(last.points[0].clock_offset())
    truth = 0.031
    told = DeviceMomentRecord(unix=T0 + truth + 1.0 + 100e-6 * 3.031, bound=0.01)
    record = inferred(scheduled(clock=line, device_first_frame=told), ntp=clock(1.0))
    assert (record.first_frame_source, record.contradictions) == ("device", [])
    assert contains(record, truth)
    assert record.first_frame_bound is not None
    assert record.first_frame_bound < 0.013
    assert line.drift == pytest.approx(100e-6, rel=0.1)
    assert line.line().interval(T0 + 300.0).contains(1.0 + 100e-6 * 303)


def test_device_report_that_is_wrong_is_a_contradiction() -> None:
    told = DeviceMomentRecord(unix=T0 + 2.0, bound=0.01)
    record = inferred(scheduled(clock=clock(), device_first_frame=told, files=[video(5.0)]))
    assert len(record.contradictions) == 2
    assert contains(record, 0.02)
    assert contains(record, 2.0)


def test_first_frame_of_a_local_recorder_is_kept_exactly() -> None:
    record = camera(files=[FileRecord(name="a.mkv", source="local", verdict=video(5.0).verdict)])
    note_seen(record, T0 + 0.123, 0.01)
    record = inferred(record)
    assert record.first_frame_at == at(0.123)
    assert (record.first_frame_bound, record.first_frame_source) == (0.01, "seen")
    assert [one.source for one in record.evidence] == ["seen"]


@pytest.mark.parametrize(
    ("system", "serial", "status", "source"),
    [
        ("mediamtx", "/dev/video0", "STARTED", "answer"),
        ("mediamtx", "camera0", "STARTED", None),
        ("multicam", "phone", "recording", None),
        ("x", "", "", None),
    ],
)
def test_answers_of_version_1_count_where_their_meaning_is_known(
    system: str, serial: str, status: str, source: str | None
) -> None:
    old = camera(serial=serial, start_status=status, first_frame_at=at(0.002), first_frame_source="answer")
    record = inferred(old.model_copy(update={"system": system, "first_frame_bound": 0.002}))
    assert record.first_frame_source == source
    assert (record.first_frame_at is None) == (source is None)


async def test_version_1_take_gets_evidence_of_its_files() -> None:
    manifest = await Manifest.load(TAKES / "whole")
    infer_first_frames(manifest)
    phone, recorder = manifest.cameras
    assert {one.source for one in phone.evidence} == {"command", "schedule", "length"}
    assert recorder.first_frame_source == "seen"
    assert align_take(manifest).window is not None


def test_clock_measured_for_hours_keeps_few_points() -> None:
    record = clock(0.0, 1e-4, 0.0)
    for number in range(1, 600):
        when = 60.0 * number
        record = record.with_measurement(ClockOffset(20e-6 * when, 1e-4, 2e-4, 4, T0 + when))
    assert len(record.points) <= 24
    assert record.samples == 8 + 599 * 4
    assert record.consistent
    assert record.line().interval(T0 + 18_000).contains(20e-6 * 18_000)
    record = record.with_measurement(ClockOffset(5.0, 1e-4, 2e-4, 4, T0 + 36_060))
    for number in range(602, 700):
        record = record.with_measurement(ClockOffset(5.0, 1e-4, 2e-4, 4, T0 + 60.0 * number))
    assert not record.consistent


# -- any truth ------------------------------------------------------------------------------------

SPANS = st.floats(0.0, 0.2)


@st.composite
def truths(draw: st.DrawFn) -> tuple[CameraRecord, ClockRecord | None, float]:
    """A camera whose evidence is all true, and when its first frame was."""
    truth = draw(st.floats(-SCHEDULE_BOUND, 2.0))
    told = truth - draw(st.floats(0.0, 3.0))
    offset, drift = draw(st.floats(-10, 10)), draw(st.floats(-100e-6, 100e-6))
    length = draw(st.floats(0.5, 20.0))
    stop = truth + length - draw(SPANS)
    frame = draw(st.sampled_from([1 / 60, 1 / 30, 1 / 7]))
    frames = max(2, round(length / frame))
    verdict = VerdictRecord(verdict="complete", frames=frames, duration=frames * frame)
    record = CameraRecord(
        id="x://a",
        name="a",
        system="x",
        directory="a",
        commanded_at=at(told),
        accepted_at=at(truth + draw(SPANS)),
        answer_meaning=draw(st.sampled_from(["recording", "heard"])),
    )
    if draw(st.booleans()):  # its last frame is captured between the command to stop and the answer
        last = truth + frames * frame
        record.stop_commanded_at, record.stopped_at = at(last - draw(SPANS)), at(last + draw(SPANS))
        name = "a.mp4"
        record.files = [FileRecord(name=name, source="device", state=FileState.ARRIVED, verdict=verdict)]
    else:
        record.stop_commanded_at, record.stopped_at = at(stop), at(stop + length)
    if abs(truth) <= SCHEDULE_BOUND and told < -0.3:
        record.accepted_at = at(told + 0.1)
        record.features, record.answer_meaning = ["scheduled_start"], "scheduled"
    bound = draw(st.floats(1e-4, 0.02))

    def measured(when: float) -> ClockOffset:
        error = draw(st.floats(-1, 1)) * bound
        return ClockOffset(offset + drift * when + error, bound, 2 * bound, 8, T0 + when)

    if draw(st.booleans()):
        moments = [told - 1.0, *([truth + length + 1] if draw(st.booleans()) else [])]
        record.clock = ClockRecord.of(*[measured(when) for when in moments])
        if draw(st.booleans()):
            error = draw(st.floats(-0.01, 0.01))
            shown = T0 + truth + offset + drift * truth + error
            record.device_first_frame = DeviceMomentRecord(unix=shown, bound=0.0101)
    for _ in range(draw(st.integers(0, 3))):
        asked = truth + draw(st.floats(-2.0, 2.0))
        note_status(record, RecordingReport(T0 + asked, T0 + asked + draw(SPANS), recording=asked >= truth))
    ntp = clock(draw(st.floats(-1, 1)), 0.001) if draw(st.booleans()) else None
    return record, ntp, truth


@settings(max_examples=300, deadline=None)
@given(truths())
def test_first_frame_contains_the_truth(
    case: tuple[CameraRecord, ClockRecord | None, float],
) -> None:
    record, ntp, truth = case
    found = inferred(record, ntp)
    assert found.contradictions == []
    if found.first_frame_at is None:
        closing = {one.source for one in found.evidence if one.latest is not None}
        assert closing <= {"schedule"}
        if closing:  # no limit any longer: the device has denied after T0 that it records
            denials = [one.earliest for one in found.evidence if one.source == "status"]
            assert denials[0] is not None
            assert denials[0].unix > T0
    else:
        assert contains(found, truth)


@settings(max_examples=300, deadline=None)
@given(truths(), st.sampled_from(["answer", "device", "status", "length"]), st.floats(-30, 30))
def test_one_lie_is_harmless_or_named_and_covered(
    case: tuple[CameraRecord, ClockRecord | None, float], liar: str, by: float
) -> None:
    record, ntp, truth = case
    if liar == "answer":
        record.answer_meaning = "recording"
        assert record.commanded_at is not None
        record.accepted_at = Moment.of(max(record.commanded_at.unix, T0 + truth - abs(by)))
    elif liar == "device":
        record.device_first_frame = DeviceMomentRecord(unix=T0 + truth + by, bound=0.01)
    elif liar == "status":
        note_status(record, RecordingReport(T0 + truth + by, T0 + truth + by, recording=by < 0))
    elif record.files and record.files[0].verdict is not None:
        length = record.files[0].verdict.duration or 0.0
        record.files[0].verdict.duration = max(0.1, length + by)
    manifest = take(record, ntp=ntp)
    found = first_frame(manifest.cameras[0], manifest)
    honest = first_frame(manifest.cameras[0], manifest, without=[liar])
    if found.contradictions and found.interval is not None and honest.interval is not None:
        # The rest is true and closes the interval: the truth is inside whatever the one says.
        assert found.interval.low - 1e-6 <= T0 + truth <= found.interval.high + 1e-6
    if not found.contradictions and found.interval is not None:
        others = [one.interval for one in found.evidence if one.source != liar]
        lied = [one.interval for one in found.evidence if one.source == liar]
        assert all(not lie.excludes(one) for lie in lied for one in others)


def test_evidence_is_written_with_finite_times() -> None:
    record = inferred(camera(answer_meaning="heard", files=[video(3.8)], commanded_at=None))
    for one in record.evidence:
        for moment in (one.earliest, one.latest):
            assert moment is None or math.isfinite(moment.unix)


def test_schedule_placed_by_all_measurements_of_the_reference() -> None:
    """T0 was sent by an offset that was known to 50 ms. What was measured since is better."""
    rough, fine = ClockOffset(1.0, 0.05, 0.1, 8, T0 - 3), ClockOffset(1.04, 0.001, 0.002, 8, T0 + 20)
    manifest = take(scheduled(clock=clock(1.04)), ntp=ClockRecord.of(rough, fine))
    assert manifest.start is not None
    manifest.start.t0 = at(1.0)
    infer_first_frames(manifest)
    (record,) = manifest.cameras
    assert record.first_frame_source == "schedule"
    assert record.first_frame_bound is not None
    assert record.first_frame_bound < SCHEDULE_BOUND + 0.05
    assert contains(record, -0.04)
    assert record.first_frame_at is not None
    frame = record.first_frame_at.unix - T0
    assert frame == pytest.approx(-0.04, abs=0.01 + FRAME)
