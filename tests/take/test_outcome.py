"""Takes whose files are whole and end too soon: manifest, outcome, exit code and table say it."""

import asyncio
import json
import signal
import time
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from asynccam.cli.report import describe_missing, is_complete
from asynccam.model.coverage import EarlyEnd, LateBegin
from asynccam.model.features import RecordingGap, StopReport
from asynccam.model.manifest import (
    CameraRecord,
    EarlyEndRecord,
    FileRecord,
    FileState,
    GapRecord,
    Manifest,
    Moment,
    Outcome,
    StartRecord,
    VerdictRecord,
)
from asynccam.recording import Verdict, verify_file
from asynccam.systems.nanocam.camera import MediaPorts, NanocamCamera
from asynccam.systems.nanocam.server.server import MediaServer
from asynccam.systems.thorvision import ThorVisionCamera
from asynccam.take import Take
from asynccam.take.outcome import infer_first_frames, judge_coverage, note_hole, outcome_of
from tests.support.command import asynccam, started
from tests.support.devices import device_process
from tests.support.gst import free_udp_port
from tests.support.scripted_camera import ScriptedCamera, late
from tests.support.waiting import eventually
from tests.systems.thorvision.rig import QUICK, rig

SILENCE = 2.5
"""Seconds, more than the rule lets pass at the frame rates of these streams."""


@dataclass(frozen=True)
class Found:
    verdict: Verdict = Verdict.COMPLETE
    frames: int | None = 30
    duration: float | None = 1.0
    detail: str = ""


async def found(path: Path) -> Found:
    return Found()


# -- recorders here -------------------------------------------------------------------------------


@pytest.mark.realtime
async def test_outcome_stream_that_breaks_off_is_incomplete(tmp_path: Path) -> None:
    async with rig(settings=replace(QUICK, latency=300)) as made:
        camera = ThorVisionCamera(made.client, made.camera)
        async with Take([camera], tmp_path, name="take", verify=verify_file) as take:
            await take.arm()
            await take.start(start_in=0)
            made.simulator.streams[0].break_off()
            broken_at = time.time()
            await asyncio.sleep(SILENCE)
            await take.stop()
            await take.collect()
    manifest = await Manifest.load(take.directory)
    (record,) = manifest.cameras
    (file,) = record.files
    assert file.verdict is not None
    assert file.verdict.verdict == "complete"
    assert record.ended_early is not None
    assert record.ended_early.at.unix < broken_at + 0.3
    assert record.ended_early.seconds > SILENCE - 0.3
    assert record.ended_early.reason == "no more frames arrived"
    assert (record.outcome, manifest.outcome, take.ok) == (Outcome.INCOMPLETE, Outcome.INCOMPLETE, False)


@pytest.mark.parametrize("latency", [20, 500])
async def test_outcome_thorvision_has_its_last_half_second(tmp_path: Path, latency: int) -> None:
    async with rig(settings=replace(QUICK, latency=latency)) as made:
        camera = ThorVisionCamera(made.client, made.camera)
        take = await Take([camera], tmp_path, name="take").run(duration=1.5, start_in=0.5)
    (record,) = take.manifest.cameras
    assert (record.outcome, record.ended_early, record.begins_late) == (Outcome.COMPLETE, None, None)
    assert covered_until(record) >= record_stop(record) - 0.04  # a frame at 30 a second
    assert record_stop(record) < t0_of(take.manifest) + 1.5 + 0.4  # it says when it was commanded


async def test_outcome_nanocam_has_its_last_moments(tmp_path: Path) -> None:
    async with MediaServer(0, host="127.0.0.1") as server:
        camera = await NanocamCamera.connect(
            f"nanocam://127.0.0.1:{server.port}", width=160, height=120, ports=MediaPorts(free_udp_port())
        )
        async with aclosing(camera):
            take = await Take([camera], tmp_path, name="take").run(duration=1.5, start_in=0.5)
    (record,) = take.manifest.cameras
    assert (record.outcome, record.ended_early, record.begins_late) == (Outcome.COMPLETE, None, None)
    assert covered_until(record) >= record_stop(record) - 0.06 - 0.11  # a frame at 20 a second, and the bound


def covered_until(record: CameraRecord) -> float:
    assert record.first_frame_at is not None
    return record.first_frame_at.unix + sum(
        file.verdict.duration or 0.0 for file in record.files if file.verdict is not None
    )


def record_stop(record: CameraRecord) -> float:
    assert record.stop_commanded_at is not None
    return record.stop_commanded_at.unix


def t0_of(manifest: Manifest) -> float:
    assert manifest.start is not None
    return manifest.start.t0_local.unix


async def test_outcome_nanocam_server_lost_is_incomplete(tmp_path: Path) -> None:
    async with MediaServer(0, host="127.0.0.1") as server:
        camera = await NanocamCamera.connect(
            f"nanocam://127.0.0.1:{server.port}", width=160, height=120, ports=MediaPorts(free_udp_port())
        )
        async with aclosing(camera), Take([camera], tmp_path, name="take", verify=verify_file) as take:
            await take.arm()
            await take.start(start_in=0)
            assert take.manifest.cameras[0].accepted_at is not None
            await server.aclose()
            await asyncio.sleep(SILENCE)
            await take.stop()
            await take.collect()
    (record,) = take.manifest.cameras
    assert record.ended_early is not None
    assert record.ended_early.seconds > SILENCE - 0.5
    assert take.manifest.outcome is Outcome.INCOMPLETE


async def test_record_command_names_a_killed_server(tmp_path: Path) -> None:
    async with device_process("thorvision", tmp_path) as server:
        line = ("record", server.address, "--to", tmp_path, "--name", "take", "--duration", 6)
        async with started(*line, "--start-in", 0.2, env={"COLUMNS": "160"}) as process:
            await eventually(
                lambda: [one for one in tmp_path.rglob("*.mkv") if one.stat().st_size > 20_000], 40
            )
            server.process.send_signal(signal.SIGKILL)
            out, err = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, err) == (8, b""), out
    assert b"complete, ends early" in out
    assert b"s are missing: no more frames arrived" in out
    assert b"incomplete: 0 of 1 camera" in out
    document = json.loads((tmp_path / "take" / "manifest.json").read_text())
    (camera,) = document["cameras"]
    assert camera["ended_early"]["seconds"] > 1
    assert camera["ended_early"]["at"]["utc"]
    assert [file["verdict"]["verdict"] for file in camera["files"]] == ["complete"]


async def test_record_command_names_a_killed_server_in_json(tmp_path: Path) -> None:
    async with device_process("thorvision", tmp_path / "server") as server:
        ended = await asynccam(
            *("record", server.address, "--to", tmp_path, "--duration", 1.5, "--start-in", 0.2, "--json")
        )
    assert (ended.code, ended.err) == (0, ""), ended.out
    assert ended.json()["complete"] is True
    assert ended.json()["manifest"]["cameras"][0]["ended_early"] is None


# -- files of devices -----------------------------------------------------------------------------


async def test_device_with_a_short_video_ended_early(tmp_path: Path) -> None:
    camera = ScriptedCamera("short", contents={"a.mp4": b"a"})
    take = await Take([camera], tmp_path, verify=found).run(duration=4.0, start_in=0)
    (record,) = (await Manifest.load(take.directory)).cameras
    assert record.ended_early is not None
    at = record.ended_early.at.unix
    assert record.commanded_at is not None
    assert record.accepted_at is not None
    assert record.commanded_at.unix + 1.0 <= at <= record.accepted_at.unix + 1.0, "a video of a second"
    assert record.ended_early.seconds == pytest.approx(t0_of(take.manifest) + 4.0 - at, abs=1e-3)
    assert record.ended_early.reason == "the video is shorter than the recording lasted"
    assert (record.outcome, take.ok) == (Outcome.INCOMPLETE, False)


async def test_outcome_late_stop_is_complete(tmp_path: Path) -> None:
    """The video has the length that was asked for, though the take waited for another camera's answer."""
    camera = ScriptedCamera("in time", contents={"a.mp4": b"a"})
    other = ScriptedCamera("slow", script={"stop": late(3.0)}, contents={"b.mp4": b"b"})
    take = await Take([camera, other], tmp_path, verify=found).run(duration=1.0, start_in=0)
    assert [one.ended_early for one in take.manifest.cameras] == [None, None]
    assert take.ok


async def test_spoiled_pictures_are_in_the_manifest(tmp_path: Path) -> None:
    class Spoiling(ScriptedCamera):
        async def stop(self, *, timeout: float = 60.0) -> StopReport:
            return replace(await super().stop(timeout=timeout), spoiled_frames=3)

    take = await Take([Spoiling("a"), ScriptedCamera("b")], tmp_path).run(duration=0, start_in=0)
    counted, uncounted = (await Manifest.load(take.directory)).cameras
    assert (counted.spoiled_frames, uncounted.spoiled_frames) == (3, None)


async def test_outcome_late_begin_is_incomplete(tmp_path: Path) -> None:
    class Late(ScriptedCamera):
        async def stop(self, *, timeout: float = 60.0) -> StopReport:
            report = await super().stop(timeout=timeout)
            return replace(report, first_frame_at=self.released_at[0] + 1.4, first_frame_bound=0.05)

    camera = Late("late", contents={"a.mp4": b"a"})
    take = await Take([camera], tmp_path, verify=found).run(duration=2.0, start_in=0)
    (record,) = (await Manifest.load(take.directory)).cameras
    assert record.begins_late is not None
    at = record.begins_late.at.unix
    assert record.accepted_at is not None
    assert record.begins_late.at == record.first_frame_at
    assert record.begins_late.seconds > 1.0
    assert at - record.accepted_at.unix <= record.begins_late.seconds <= at - t0_of(take.manifest)
    assert (record.outcome, take.ok) == (Outcome.INCOMPLETE, False)
    assert not is_complete(take.manifest)


async def test_late_begin_of_a_local_recorder_is_recorded(tmp_path: Path) -> None:
    class Recorder(ScriptedCamera):
        async def stop(self, *, timeout: float = 60.0) -> StopReport:
            report = await super().stop(timeout=timeout)
            return replace(report, begins_late=LateBegin(report.commanded_at, 0.5, "dust"))

    take = await Take([Recorder("one", local=True)], tmp_path).run(duration=0.05, start_in=0)
    (record,) = take.manifest.cameras
    assert record.begins_late is not None
    assert (record.begins_late.seconds, record.begins_late.reason) == (0.5, "dust")
    assert record.outcome is Outcome.INCOMPLETE


async def test_early_end_of_a_local_recorder_is_recorded(tmp_path: Path) -> None:
    class Recorder(ScriptedCamera):
        async def stop(self, *, timeout: float = 60.0) -> StopReport:
            report = await super().stop(timeout=timeout)
            return replace(report, ended_early=EarlyEnd(report.commanded_at - 7, None, "dust"))

    take = await Take([Recorder("one", local=True)], tmp_path).run(duration=0.05, start_in=0)
    (record,) = take.manifest.cameras
    assert record.ended_early is not None
    assert record.ended_early.seconds == pytest.approx(7)
    assert record.outcome is Outcome.INCOMPLETE


async def test_evidence_at_odds_of_a_local_recorder_is_a_contradiction(tmp_path: Path) -> None:
    class Recorder(ScriptedCamera):
        async def stop(self, *, timeout: float = 60.0) -> StopReport:
            report = await super().stop(timeout=timeout)
            at = report.commanded_at - 0.05
            return replace(report, first_frame_at=at, first_frame_bound=0.04, contradictions=("a and b",))

    take = await Take([Recorder("one", local=True)], tmp_path).run(duration=0.05, start_in=0)
    (record,) = (await Manifest.load(take.directory)).cameras
    assert record.contradictions == ["a and b"]
    assert record.first_frame_bound == pytest.approx(0.04)
    assert (record.outcome, take.ok) == (Outcome.INCOMPLETE, False)
    infer_first_frames(take.manifest)
    assert take.manifest.cameras[0].contradictions == ["a and b"]


async def test_outcome_gap_is_incomplete(tmp_path: Path) -> None:
    class Recorder(ScriptedCamera):
        async def stop(self, *, timeout: float = 60.0) -> StopReport:
            report = await super().stop(timeout=timeout)
            return replace(report, gaps=(RecordingGap(report.commanded_at - 3, report.commanded_at - 1),))

    take = await Take([Recorder("one")], tmp_path).run(duration=0.05, start_in=0)
    assert take.manifest.cameras[0].outcome is Outcome.INCOMPLETE
    assert not is_complete(take.manifest)


# -- the rule -------------------------------------------------------------------------------------

T0 = 1_800_000_000.0


def record_of(
    *lengths: float | None,
    frames: int = 150,
    source: str = "device",
    bound: float = 0.1,
    stop: float = 5.0,
    answered: float = 0.0,
) -> CameraRecord:
    files = [
        FileRecord(
            name=f"{number}.mp4",
            source="local" if source == "local" else "device",
            state=FileState.ARRIVED,
            verdict=VerdictRecord(verdict="complete", frames=frames, duration=length),
        )
        for number, length in enumerate(lengths)
    ]
    return CameraRecord(
        id="one",
        name="one",
        system="multicam",
        directory="one",
        accepted_at=Moment.of(T0),
        first_frame_at=Moment.of(T0),
        first_frame_bound=bound,
        stop_commanded_at=Moment.of(T0 + stop),
        stopped_at=Moment.of(T0 + stop + answered),
        files=files,
    )


def taken() -> Manifest:
    now = Moment.of(T0)
    start = StartRecord(t0=now, t0_local=now, source="system", start_in=3.0)
    return Manifest(take="take", phase="done", created_at=now, written_at=now, start=start)


@pytest.mark.parametrize(
    ("record", "seconds"),
    [
        (record_of(2.75, stop=4.0), 1.25),
        (record_of(1 / 30, frames=1, stop=4.0), 4.0),  # one frame
        (record_of(0.0, frames=1, stop=4.0), 4.0),
        (
            record_of(2.6, stop=4.0),
            1.4,
        ),  # began late, which the file alone does not tell
        (record_of(3.5), 1.5),
        (record_of(2.9, frames=3), 2.1),
        (record_of(4.2), 0.8),
    ],
)
def test_short_video_ended_early(record: CameraRecord, seconds: float) -> None:
    until = None if record.stop_commanded_at is None else record.stop_commanded_at.unix
    judge_coverage(record, taken(), until)
    assert record.ended_early is not None
    assert record.ended_early.seconds == pytest.approx(seconds, abs=0.04)
    assert outcome_of(record, Outcome.FAILED) is Outcome.INCOMPLETE


def seen(record: CameraRecord, late: float, bound: float = 0.01) -> CameraRecord:
    first = Moment.of(T0 + late)
    return record.model_copy(
        update={"first_frame_at": first, "first_frame_bound": bound, "first_frame_source": "seen"}
    )


@pytest.mark.parametrize("source", ["device", "local"])
@pytest.mark.parametrize("late", [0.1, 1.4, 7.0])  # the last one begins after the take ended
def test_video_that_begins_late_is_recorded(late: float, source: str) -> None:
    record = seen(record_of(5.0 - min(late, 4.5), source=source), late)
    judge_coverage(record, taken(), T0 + 5.0)
    assert record.begins_late is not None
    assert record.begins_late.seconds == pytest.approx(late)
    assert record.begins_late.at.unix == pytest.approx(T0 + late)
    assert record.ended_early is None
    assert outcome_of(record, Outcome.FAILED) is Outcome.INCOMPLETE
    assert describe_missing(record) == [
        f"begins late, its first {late:.1f} s are missing: its first frame came after the start"
    ]


@pytest.mark.parametrize("source", ["device", "local"])
def test_outcome_delayed_answer_is_not_reaction_time(source: str) -> None:
    """The network was down from T0 on, and the camera began when it was back."""
    record = seen(record_of(2.4, source=source), 2.6)
    record = record.model_copy(update={"commanded_at": Moment.of(T0), "accepted_at": Moment.of(T0 + 2.7)})
    judge_coverage(record, taken(), T0 + 5.0)
    assert record.begins_late is not None
    assert record.begins_late.seconds == pytest.approx(2.6)
    assert outcome_of(record, Outcome.FAILED) is Outcome.INCOMPLETE


@pytest.mark.parametrize(
    "record",
    [
        seen(record_of(5.0), 0.03),
        seen(record_of(5.0), 0.3, bound=0.3),
        seen(record_of(5.0), -0.2),
        seen(
            record_of(4.0).model_copy(update={"accepted_at": Moment.of(T0 + 1.0)}), 1.0
        ),  # its reaction time
        seen(record_of(4.5, frames=4), 0.9),  # a frame a second
        record_of(5.0).model_copy(
            update={"first_frame_at": Moment.of(T0 + 1), "first_frame_source": "answer"}
        ),
        seen(record_of(4.0), 1.0).model_copy(update={"kind": "still"}),
    ],
)
def test_begin_within_tolerance_is_not_late(record: CameraRecord) -> None:
    judge_coverage(record, taken(), T0 + 5.0)
    assert record.begins_late is None


@dataclass(frozen=True)
class Look:
    longest: float | None
    interval: float | None = 0.05
    verdict: Verdict = Verdict.COMPLETE
    frames: int | None = 100
    duration: float | None = 5.0
    detail: str = ""


@pytest.mark.parametrize("source", ["device", "local"])
def test_outcome_hole_in_a_file_is_a_gap(source: str) -> None:
    record = seen(record_of(5.0, source=source), 0.0)
    note_hole(record, record.files[0], Look(1.6))
    (gap,) = record.gaps
    assert (gap.began_at.unix, gap.ended_at) == (T0, None)
    assert gap.reason == "1.6 s without a frame, somewhere in 0.mp4"
    assert outcome_of(record, Outcome.FAILED) is Outcome.INCOMPLETE
    assert record.first_frame_at is not None
    # Of a recorder here that died, the first frames may be some that had waited.
    earliest = record.first_frame_at.unix - (record.first_frame_bound or 0.0)
    assert earliest == pytest.approx(T0 - 0.01 - (1.6 if source == "local" else 0.0))
    note_hole(record, record.files[0], Look(1.6))
    assert len(record.gaps) == 1


@pytest.mark.parametrize("look", [Look(None), Look(0.9), Look(2.5, interval=1.0)])
def test_interval_within_tolerance_is_not_a_hole(look: Look) -> None:
    record = seen(record_of(5.0), 0.0)
    note_hole(record, record.files[0], look)
    assert record.gaps == []


@pytest.mark.parametrize(("died", "early"), [(2.0, 3.0), (4.5, None), (5.2, None)])
def test_outcome_local_recorder_that_died_ended_early(died: float, early: float | None) -> None:
    record = seen(record_of(died, source="local"), 0.0)
    record = record.model_copy(update={"stop_commanded_at": None, "stopped_at": Moment.of(T0 + died)})
    judge_coverage(record, taken(), T0 + 5.0)
    found = None if record.ended_early is None else record.ended_early.seconds
    assert found == (None if early is None else pytest.approx(early))
    assert outcome_of(record, Outcome.FAILED) is (Outcome.COMPLETE if early is None else Outcome.INCOMPLETE)


def test_two_of_five_seconds_missing_are_reported() -> None:
    record = record_of(2.0, frames=60)
    judge_coverage(record, taken(), T0 + 5.0)
    assert record.ended_early is not None
    assert record.ended_early.seconds == pytest.approx(3.0)
    assert record.ended_early.at.unix == pytest.approx(T0 + 2.0)
    assert outcome_of(record, Outcome.FAILED) is Outcome.INCOMPLETE
    assert describe_missing(record) == [
        "ended early, its last 3.0 s are missing: the video is shorter than the recording lasted"
    ]


@pytest.mark.parametrize(
    "record",
    [
        record_of(5.0),
        record_of(6.5),
        record_of(4.9),  # within the bound of its first frame
        record_of(3.95, frames=4),  # one frame a second; the last one has no length
        record_of(4.2, answered=0.8),  # a stop that took so long to be answered
        record_of(3.6, frames=60, bound=1.5),  # its clock was found to be off by more than a second
        record_of(*[0.4] * 10, frames=4),  # in segments, each short by its last frame
        record_of(2.95, stop=3.0),  # stopped before the end that was planned
        record_of(None),  # nobody could tell its length
        record_of(2.0, source="local"),  # its recorder has told already
        record_of(2.0).model_copy(update={"kind": "still"}),
        record_of(2.0).model_copy(update={"first_frame_at": None}),
        record_of(2.0).model_copy(
            update={"gaps": [GapRecord(began_at=Moment.of(T0 + 1), ended_at=Moment.of(T0 + 4))]}
        ),
    ],
)
def test_end_within_tolerance_is_not_early(record: CameraRecord) -> None:
    judge_coverage(record, taken(), T0 + 5.0)
    assert record.ended_early is None


def test_unknown_end_is_not_judged() -> None:
    record = record_of(1.0).model_copy(update={"stop_commanded_at": None})
    judge_coverage(record, taken(), None)
    assert record.ended_early is None


def test_outcome_hour_at_a_slightly_wrong_rate_is_complete() -> None:
    """29.97 frames a second that a device calls 30."""
    record = record_of(3596.4, frames=107_892, stop=3600.0)
    judge_coverage(record, taken(), T0 + 3600.0)
    assert record.ended_early is None
    record = record_of(3580.0, frames=107_400, stop=3600.0)
    judge_coverage(record, taken(), T0 + 3600.0)
    assert record.ended_early is not None


@pytest.mark.parametrize(
    ("gaps", "early", "told"),
    [
        ([], None, []),
        ([(1.0, 3.5)], None, ["a gap of 2.5 s: dust"]),
        ([(1.0, None)], None, ["a gap to the end: dust"]),
        ([(1.0, None)], 4.0, ["ended early, its last 4.0 s are missing: dust"]),
    ],
)
def test_missing_parts_in_words(
    gaps: list[tuple[float, float | None]], early: float | None, told: list[str]
) -> None:
    record = record_of(5.0)
    record.gaps = [
        GapRecord(began_at=Moment.of(began), ended_at=Moment.maybe(ended), reason="dust")
        for began, ended in gaps
    ]
    if early is not None:
        record.ended_early = EarlyEndRecord(at=Moment.of(T0), seconds=early, reason="dust")
    assert describe_missing(record) == told
