"""The journal: synced lines, a lock, and what is made of a journal that was cut anywhere."""

import asyncio
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from asynccam.errors import BusyError, StateError, StorageError
from asynccam.model.features import ArmedStart, RecordPlan, StartReport
from asynccam.model.manifest import CameraRecord, FileRecord, Manifest, Moment, Outcome
from asynccam.runtime.tasks import finish
from asynccam.session import Session
from asynccam.take import Take, TakeLimits, resume_take
from asynccam.take.store import JOURNAL_NAME, Journal, read_journal, replay
from tests.support.cancelling import cancelled_at
from tests.support.scripted_camera import ScriptedCamera, refuse

NOW = Moment.of(1_800_000_000.0)


def manifest(outcome: Outcome = Outcome.RUNNING) -> Manifest:
    cameras = [CameraRecord(id=f"x://{n}", name=n, system="x", directory=n, features=["files"]) for n in "ab"]
    return Manifest(
        take="t", phase="starting", outcome=outcome, created_at=NOW, written_at=NOW, cameras=cameras
    )


async def test_lines_are_on_the_disk_when_they_are_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    await journal.create()
    await journal.write("armed", cameras=["x://\u00e9"], name="line\nbreak")
    (entry,) = read_journal((tmp_path / JOURNAL_NAME).read_bytes())
    assert (entry.event, dict(entry.facts)) == ("armed", {"cameras": ["x://\u00e9"], "name": "line\nbreak"})
    await journal.close(remove=False)
    await journal.close(remove=True)  # says nothing twice
    assert (tmp_path / JOURNAL_NAME).exists()
    with pytest.raises(StateError):
        await journal.write("late")
    with pytest.raises(StorageError, match="open the journal"):
        await Journal(tmp_path).create()


async def test_lines_given_at_the_same_moment_are_synced_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr("asynccam.take.store.os.fsync", synced.append)
    journal = Journal(tmp_path)
    await journal.create()
    del synced[:]
    record = b'{\n  "id": "x://a",\n  "text": "two  blanks\\nand a break"\n}\n'
    async with asyncio.TaskGroup() as group:
        for number in range(300):
            group.create_task(journal.write("camera", number=number, record=record))
    assert len(synced) <= 3
    entries = read_journal(journal.path.read_bytes())
    assert [entry.facts["number"] for entry in entries] == list(range(300))
    assert [entry.line for entry in entries] == list(range(1, 301))
    assert entries[7].facts["record"] == json.loads(record)
    await journal.close(remove=True)


async def test_failed_write_is_raised_for_every_line_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path)
    await journal.create()

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("asynccam.take.store.os.fsync", full)
        writes = [journal.write("camera", number=number) for number in range(20)]
        results = await asyncio.gather(*writes, return_exceptions=True)
    assert all(isinstance(result, StorageError) for result in results)
    await journal.write("camera", number=20)
    await journal.close(remove=True)


async def test_line_whose_writer_is_cancelled_holds_up_no_other(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    await journal.create()
    writes = [asyncio.create_task(journal.write("camera", number=number)) for number in range(5)]
    await asyncio.sleep(0)
    writes[0].cancel()
    writes[1].cancel()
    await asyncio.wait(writes)
    await journal.write("camera", number=5)
    numbers = [entry.facts["number"] for entry in read_journal(journal.path.read_bytes())]
    assert numbers == sorted(set(numbers))
    assert set(numbers) >= {2, 3, 4, 5}
    await journal.close(remove=True)


async def test_journal_lock_excludes_a_second_holder(tmp_path: Path) -> None:
    first, second = Journal(tmp_path), Journal(tmp_path)
    await first.create()
    with pytest.raises(BusyError, match="is at work"):
        await second.reopen()
    await first.close(remove=False)
    assert await second.reopen() == ()
    await second.close(remove=True)
    assert list(tmp_path.iterdir()) == []


async def test_journal_cut_anywhere_keeps_complete_lines(tmp_path: Path) -> None:
    lines = [json.dumps({"at": 1.0 + n, "event": "camera", "number": n}).encode() for n in range(3)]
    data = b"\n".join(lines) + b"\n"
    for cut in range(len(data) + 1):
        whole = [line for line in data[:cut].split(b"\n") if line in lines]
        assert [entry.facts["number"] for entry in read_journal(data[:cut])] == list(range(len(whole)))
    (tmp_path / JOURNAL_NAME).write_bytes(data[:-5])
    journal = Journal(tmp_path)
    assert len(await journal.reopen()) == 2
    await journal.write("resumed")
    await journal.close(remove=False)
    found = read_journal((tmp_path / JOURNAL_NAME).read_bytes())
    assert [entry.event for entry in found] == ["camera", "camera", "resumed"]


@pytest.mark.parametrize(
    "line",
    [
        *[b"null", b"[1]", b'{"at": "x", "event": "e"}', b'{"at": 1}', b"\xff", b"[" * 9999],
        *[b'{"at": %s, "event": "e"}' % (b"9" * digits) for digits in (400, 5000)],
        *[b'{"at": %s, "event": "e"}' % word for word in (b"NaN", b"Infinity", b"true")],
    ],
)
def test_journal_ignores_invalid_lines(line: bytes) -> None:
    assert len(read_journal(line + b'\n{"at": 1, "event": "e"}\n')) == 1


async def test_opening_that_is_cancelled_leaves_no_lock(tmp_path: Path) -> None:
    async def work() -> None:
        journal = Journal(tmp_path)
        try:
            await journal.reopen()
            await journal.write("resumed")
        finally:
            await finish(journal.close(remove=False))

    count = 1
    while await cancelled_at(work(), count):
        journal = Journal(tmp_path)
        await journal.reopen()
        await journal.close(remove=False)
        count += 1
    assert count > 3


def lines(*facts: dict[str, object]) -> bytes:
    return b"".join(json.dumps({"at": NOW.unix + n, **one}).encode() + b"\n" for n, one in enumerate(facts))


def test_commanded_cameras_may_record_until_they_report_otherwise() -> None:
    record = manifest().cameras[1].model_copy(update={"stopped_at": NOW, "files": []})
    entries = read_journal(
        lines(
            {"event": "created", "manifest": manifest().model_dump(mode="json")},
            {"event": "armed", "cameras": ["x://a", "x://b"]},
            {"event": "starting", "cameras": ["x://a", "x://b"], "start_in": 3.0},
            {"event": "camera", "camera": "x://b", "record": record.model_dump(mode="json"), "names": ["v"]},
            {"event": "camera", "camera": "x://unknown", "record": None},
            {"event": "later versions may say more"},
        )
    )
    left = replay(None, entries, "there")
    assert (left.commanded, left.may_record) == ({"x://a", "x://b"}, {"x://a"})
    assert left.names == {"x://b": ("v",)}
    assert left.t0 == NOW.unix + 2 + 3.0
    assert left.manifest.cameras[0].commanded_at is not None
    with pytest.raises(StorageError, match="there has neither"):
        replay(None, entries[1:], "there")


def test_replay_ended_take_is_settled_unless_files_are_missing() -> None:
    ended = manifest(Outcome.INCOMPLETE)
    ended.cameras[0].commanded_at = NOW
    assert replay(ended, (), "t").is_settled
    ended.cameras[0].files = [FileRecord(name="v.mp4", source="device")]
    left = replay(ended, (), "t")
    assert not left.is_settled
    assert left.may_record == set()


class Held:
    """As much of a session as resuming needs."""

    def __init__(self, *cameras: ScriptedCamera) -> None:
        self.cameras = {camera.id: camera for camera in cameras}
        self.told: list[object] = []

    async def connect(self, address: str, *, credentials: object = None) -> ScriptedCamera:
        raise ConnectionRefusedError(address)

    def emit(self, event: object) -> None:
        self.told.append(event)


async def left_behind(tmp_path: Path, camera: ScriptedCamera) -> Path:
    """A take whose process died while it recorded."""
    async with Take([camera], tmp_path, name="take") as take:
        await take.arm()
        await take.start(start_in=0)
        kept = {path.name: path.read_bytes() for path in take.directory.iterdir() if path.is_file()}
    directory = tmp_path / "dead"
    (directory / camera.info.name).mkdir(parents=True)
    for name, data in kept.items():
        (directory / name).write_bytes(data)
    camera.recording = True
    camera.calls.clear()
    return directory


async def test_resuming_twice_is_refused_the_second_time(tmp_path: Path) -> None:
    camera = ScriptedCamera("one")
    directory = await left_behind(tmp_path, camera)
    found = await resume_take(directory, Held(camera))
    assert (found.outcome, camera.recording) == (Outcome.RESUMED, False)
    assert await Manifest.load(directory) == found
    with pytest.raises(StateError, match=r"has ended \(resumed\)"):
        await Take.resume(directory, Held(camera))
    assert sorted(path.name for path in directory.iterdir()) == ["manifest.json", "one"]


async def test_frame_drift_is_recorded_before_the_stop(tmp_path: Path) -> None:
    @dataclass
    class Stamped:
        armed: ArmedStart

        def release(self, at: float | None) -> None:
            self.armed.release(at)

        async def accepted(self) -> StartReport:
            return replace(await self.armed.accepted(), frame_drift=5e-4)

        async def aclose(self) -> None:
            await self.armed.aclose()

    class Receiver(ScriptedCamera):
        async def arm(self, plan: RecordPlan) -> ArmedStart:
            return Stamped(await super().arm(plan))

    camera = Receiver("one", local=True)
    directory = await left_behind(tmp_path, camera)
    (record,) = (await resume_take(directory, Held(camera))).cameras
    assert record.frame_drift == 5e-4


async def test_resume_keeps_a_part_until_the_file_is_downloaded(tmp_path: Path) -> None:
    camera = ScriptedCamera("one", script={"download": refuse(OSError("no"))})
    directory = await left_behind(tmp_path, camera)
    part = directory / "one" / "video.mp4.part"
    part.write_bytes(b"half")
    found = await resume_take(directory, Held(camera))
    (file,) = found.cameras[0].files
    assert (file.part, file.received) == ("one/video.mp4.interrupted", 4)
    camera.script.clear()
    found = await resume_take(directory, Held(camera))
    (file,) = found.cameras[0].files
    assert (file.path, file.part) == ("one/video.mp4", None)
    assert [path.name for path in (directory / "one").iterdir()] == ["video.mp4"]


async def test_resuming_cancelled_anywhere_can_be_done_again(tmp_path: Path) -> None:
    camera = ScriptedCamera("one")
    directory = await left_behind(tmp_path, camera)
    limits = TakeLimits(status_timeout=5.0)

    async def work() -> None:
        try:
            await resume_take(directory, Held(camera), limits=limits)
        except StateError:  # nothing is left to do: it was cancelled once the last manifest was written
            assert (await Manifest.load(directory)).phase == "done"

    count = 1
    while await cancelled_at(work(), count):
        count += 3
    found = await Manifest.load(directory)
    assert found.phase == "done"
    assert [file.state for file in found.cameras[0].files] == ["arrived"]
    assert not camera.recording


async def test_another_camera_at_the_address_is_not_touched(tmp_path: Path) -> None:
    camera, other = ScriptedCamera("one"), ScriptedCamera("other")
    directory = await left_behind(tmp_path, camera)
    held = Held()
    held.cameras = {camera.id: other}
    found = await resume_take(directory, held)
    assert (found.outcome, other.calls) == (Outcome.FAILED, [])
    assert "not scripted://one" in found.cameras[0].errors[0].message


async def test_session_is_a_connector(tmp_path: Path) -> None:
    camera = ScriptedCamera("one")
    directory = await left_behind(tmp_path, camera)
    async with Session() as session:
        session.add(camera)
        assert (await Take.resume(directory, session)).outcome is Outcome.RESUMED


@pytest.mark.parametrize("stubborn", [False, True])
async def test_scheduled_start_is_cancelled_though_the_device_starts(tmp_path: Path, stubborn: bool) -> None:
    camera = ScriptedCamera("a", scheduled=True, stubborn=stubborn)
    plan = manifest()
    plan.cameras = [CameraRecord(id=camera.id, name="a", system="x", directory="a", features=["files"])]
    (tmp_path / "a").mkdir()
    journal = Journal(tmp_path)
    await journal.create()
    await journal.write("created", manifest=plan.model_dump(mode="json"))
    await journal.write("starting", cameras=[camera.id], start_in=1.0)
    await journal.close(remove=False)
    armed = await camera.arm(RecordPlan(tmp_path / "a"))
    armed.release(time.time() + 1.0)
    found = await resume_take(tmp_path, Held(camera), limits=TakeLimits(late_start_grace=0.5))
    await armed.aclose()
    assert not camera.recording
    assert camera.calls.count("stop") == (2 if stubborn else 1)
    assert found.outcome is (Outcome.INCOMPLETE if stubborn else Outcome.CANCELLED)
    assert found.cameras[0].errors == []
