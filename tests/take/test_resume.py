"""Takes whose process is killed in each phase, and what resuming makes of them; all of it real processes."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from asynccam import CameraState, Credentials, Session
from asynccam.model.manifest import FileState, Manifest, Outcome
from asynccam.take.store import JOURNAL_NAME, Entry, read_journal
from tests.support.command import asynccam, started
from tests.support.devices import Device, device_process
from tests.support.waiting import eventually

HOST = "127.0.0.1"
HANGS_WHILE_COLLECTING = """
import asyncio, sys
from asynccam import Credentials, Session
from asynccam.recording import verify_file

async def hang(path):
    await asyncio.Event().wait()

async def main(directory, token, *addresses):
    async with Session() as session:
        cameras = await session.connect_all(addresses, credentials=Credentials(token))
        await session.take(cameras, duration=0.5, start_in=0.3, directory=directory, name="take", verify=hang)

asyncio.run(main(*sys.argv[1:]))
"""


@asynccontextmanager
async def both(directory: Path) -> AsyncIterator[tuple[Device, Device]]:
    """A MultiCam device that starts by its own clock, and a MediaMTX service that starts when told."""
    async with (
        device_process("multicam", directory / "device", "--device-id", directory.name[:20]) as device,
        device_process("mediamtx", directory / "service", "--live") as service,
    ):
        yield device, service


def addresses(devices: tuple[Device, Device]) -> tuple[str, str]:
    return devices[0].address, f"{devices[1].address}/camera0"


def access(devices: tuple[Device, Device]) -> dict[str, str]:
    """Return what the commands need to be let in, in their environment."""
    service = devices[1]
    return {"ASYNCCAM_TOKEN": token(devices), "MEDIAMTX_HTTP_PORT": str(service.http_port)}


def token(devices: tuple[Device, Device]) -> str:
    return str(devices[1].said["token"])


def entries(take: Path) -> tuple[Entry, ...]:
    try:
        return read_journal((take / JOURNAL_NAME).read_bytes())
    except FileNotFoundError:
        return ()


def said(take: Path, event: str, count: int = 1, **facts: object) -> Callable[[], bool]:
    def predicate() -> bool:
        found = [one for one in entries(take) if one.event == event]
        return len([one for one in found if facts.items() <= one.facts.items()]) >= count

    return predicate


async def record_and_kill(
    tmp_path: Path, devices: tuple[Device, Device], when: Callable[[], bool], *options: object
) -> Path:
    """Start ``asynccam record`` and kill it once something is true; returns the take's directory."""
    line = ("record", *addresses(devices), "--to", tmp_path, "--name", "take")
    async with started(*line, *options, env=access(devices)) as process:
        await eventually(when, 40)
        process.kill()
        await process.wait()
    return tmp_path / "take"


async def resume(take: Path, devices: tuple[Device, Device]) -> tuple[int, Manifest]:
    ended = await asynccam("resume", take, "--host", HOST, "--json", env=access(devices), timeout=120)
    assert ended.err == ""
    manifest = await Manifest.load(take)
    assert ended.json()["manifest"] == manifest.model_dump(mode="json")
    assert manifest.phase == "done"
    assert len(manifest.resumed) == 1
    assert not (take / JOURNAL_NAME).exists()
    return ended.code, manifest


def assert_home(take: Path, manifest: Manifest) -> None:
    for camera in manifest.cameras:
        (file,) = camera.files
        assert (file.state, camera.errors) == (FileState.ARRIVED, [])
        assert file.path is not None
        assert (take / file.path).stat().st_size == file.size
        assert file.verdict is not None
        assert file.verdict.verdict == "complete"
    names = [path.name for path in take.rglob("*") if path.is_file()]
    assert len(names) == 1 + len(manifest.cameras)


async def idle(devices: tuple[Device, Device]) -> None:
    async with Session() as session:
        for address in addresses(devices):
            camera = await session.connect(address, credentials=Credentials(token(devices)))
            assert (await camera.status()).state is CameraState.READY


async def test_killed_before_t0_nothing_records_afterwards(tmp_path: Path) -> None:
    take = tmp_path / "take"
    async with both(tmp_path) as devices:
        await record_and_kill(tmp_path, devices, said(take, "released"), "--duration", 60, "--start-in", 14)
        assert (await Manifest.load(take)).outcome is Outcome.RUNNING
        code, manifest = await resume(take, devices)
        await idle(devices)
    assert manifest.start is not None
    # Far enough ahead of T0 that the stop reaches the device before it, whatever else the computer does.
    assert manifest.start.t0_local.unix - manifest.resumed[0].unix > 2.0
    assert (code, manifest.outcome) == (8, Outcome.CANCELLED)
    assert [camera.files for camera in manifest.cameras] == [[], []]


@pytest.mark.realtime
async def test_killed_while_recording_resume_stops_and_downloads(tmp_path: Path) -> None:
    take = tmp_path / "take"
    async with both(tmp_path) as devices:

        def recording() -> bool:
            made = list((tmp_path / "device").rglob("*.mp4"))
            return said(take, "camera", 2, may_record=True)() and bool(made)

        await record_and_kill(tmp_path, devices, recording, "--duration", 60, "--start-in", 0.5)
        code, manifest = await resume(take, devices)
        await idle(devices)
    assert_home(take, manifest)
    assert (code, manifest.outcome) == (0, Outcome.RESUMED), f"{manifest.cameras}"
    assert all(camera.outcome is Outcome.COMPLETE for camera in manifest.cameras)


async def test_killed_while_stopping(tmp_path: Path) -> None:
    take = tmp_path / "take"
    async with both(tmp_path) as devices:
        stopping = said(take, "stopping")
        await record_and_kill(tmp_path, devices, stopping, "--duration", 0.6, "--start-in", 0.5)
        _, manifest = await resume(take, devices)
        await idle(devices)
    assert [[file.state for file in camera.files] for camera in manifest.cameras] == [[FileState.ARRIVED]] * 2


async def test_resume_after_a_kill_downloads_no_file_twice(tmp_path: Path) -> None:
    take = tmp_path / "take"
    async with both(tmp_path) as devices:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", HANGS_WHILE_COLLECTING, str(tmp_path), token(devices)),
            *addresses(devices),
            env=os.environ | access(devices),
        )
        try:
            await eventually(lambda: len(list(take.rglob("*.mp4"))) == 2, 40)
        finally:
            process.kill()
            await process.wait()
        seen = {path: path.stat().st_ino for path in take.rglob("*.mp4")}
        _, manifest = await resume(take, devices)
    assert_home(take, manifest)
    assert {path: path.stat().st_ino for path in take.rglob("*.mp4")} == seen
    assert manifest.outcome is Outcome.RESUMED


async def test_resume_finds_file_of_a_recorder_that_outlived_its_process(tmp_path: Path) -> None:
    take = tmp_path / "take"
    async with device_process("thorvision", tmp_path) as server:
        line = ("record", server.address, "--to", tmp_path, "--name", "take", "--duration", 60)
        async with started(*line, "--start-in", 0.2) as process:
            await eventually(said(take, "camera"), 40)
            # Some frames are on the disk, so that there is something to be found.
            await eventually(lambda: [one for one in take.rglob("*.mkv") if one.stat().st_size > 20_000], 40)
            process.kill()
            await process.wait()
        ended = await asynccam("resume", take, "--json", timeout=120)
        again = await asynccam("resume", take, "--json")
    manifest = await Manifest.load(take)
    (camera,) = manifest.cameras
    (file,) = camera.files
    assert (file.source, file.state, camera.errors) == ("local", FileState.ARRIVED, [])
    assert file.verdict is not None
    assert file.verdict.verdict == "complete"
    # The file is whole, but most of the minute is missing.
    assert camera.ended_early is not None
    assert camera.ended_early.reason == "its recorder ended with the process of the take"
    assert (ended.code, manifest.outcome, camera.outcome) == (8, Outcome.INCOMPLETE, Outcome.INCOMPLETE)
    assert (again.code, again.out) == (2, "")
    assert "nothing of it is left to resume" in again.err


async def test_resume_picture_downloaded_before_the_end(tmp_path: Path) -> None:
    take = tmp_path / "take"
    async with device_process("snapshot", tmp_path / "server") as server:
        line = ("record", server.address, "--to", tmp_path, "--name", "take", "--duration", 60)
        async with started(*line, "--start-in", 0.2) as process:
            await eventually(lambda: bool(list(take.glob("*/*.jpg"))) and said(take, "camera")(), 40)
            process.kill()
            await process.wait()
        ended = await asynccam("resume", take, "--json", timeout=120)
    assert (ended.code, ended.err) == (0, "")
    manifest = await Manifest.load(take)
    (camera,) = manifest.cameras
    (file,) = camera.files
    assert (camera.kind, camera.outcome, camera.errors) == ("still", Outcome.COMPLETE, [])
    assert (file.state, camera.stop_status) == (FileState.ARRIVED, "picture taken")
    assert file.verdict is not None
    assert (file.verdict.verdict, file.verdict.frames) == ("complete", 1)
    assert file.path is not None
    assert (take / file.path).stat().st_size == file.size


async def test_missing_picture_is_reported(tmp_path: Path) -> None:
    take = tmp_path / "take"
    async with device_process("snapshot", tmp_path / "server") as server:
        line = ("record", server.address, "--to", tmp_path, "--name", "take", "--duration", 60)
        async with started(*line, "--start-in", 0.2) as process:
            await eventually(lambda: bool(list(take.glob("*/*.jpg"))), 40)
            process.kill()
            await process.wait()
        for picture in take.glob("*/*.jpg"):
            picture.unlink()
        ended = await asynccam("resume", take, "--json", timeout=120)
    assert (ended.code, ended.err) == (8, "")
    (camera,) = (await Manifest.load(take)).cameras
    assert camera.outcome is Outcome.FAILED
    assert [(error.step, error.message) for error in camera.errors] == [
        ("resume", "its picture was not here when the process of the take died")
    ]


@pytest.mark.parametrize("there", [True, False])
async def test_resume_picture_in_transfer_is_downloaded_or_listed(tmp_path: Path, *, there: bool) -> None:
    take = tmp_path / "take"
    async with device_process("snapshot", tmp_path / "server") as server:
        line = ("record", server.address, "--to", tmp_path, "--name", "take", "--duration", 60)
        async with started(*line, "--start-in", 0.2) as process:
            await eventually(lambda: bool(list(take.glob("*/*.jpg"))), 40)
            process.kill()
            await process.wait()
        (picture,) = take.glob("*/*.jpg")
        whole = await asyncio.to_thread(picture.read_bytes)
        await asyncio.to_thread(picture.with_name(f"{picture.name}.part").write_bytes, whole[:1000])
        picture.unlink()
        if not there:
            server.process.kill()
            await server.process.wait()
        await asynccam("resume", take, "--json", timeout=120)
    (camera,) = (await Manifest.load(take)).cameras
    (file,) = camera.files
    assert file.name == picture.name
    place = take / camera.directory
    if there:
        assert file.state is FileState.ARRIVED
        assert await asyncio.to_thread(picture.read_bytes) == whole
        assert list(place.iterdir()) == [picture]
    else:
        assert (file.state, file.path, file.received) == (FileState.PENDING, None, 1000)
        assert [one.name for one in place.iterdir()] == [Path(file.part or "").name]


async def test_resume_running_take_is_refused(tmp_path: Path) -> None:
    take = tmp_path / "take"
    async with device_process("multicam", tmp_path / "device") as device:
        line = ("record", device.address, "--to", tmp_path, "--name", "take", "--duration", 60)
        async with started(*line, "--start-in", 0.2) as process:
            await eventually(said(take, "camera"), 40)
            ended = await asynccam("resume", take)
            assert process.returncode is None
            process.kill()
    assert ended.code == 3
    assert "is at work" in ended.err


@pytest.mark.parametrize("cut", [1, 40])
async def test_resume_with_a_cut_journal_and_no_manifest(tmp_path: Path, cut: int) -> None:
    take = tmp_path / "take"
    async with both(tmp_path) as devices:
        await record_and_kill(tmp_path, devices, said(take, "camera", 2), "--duration", 60, "--start-in", 0.2)
        (take / "manifest.json").unlink()
        journal = take / JOURNAL_NAME
        journal.write_bytes(journal.read_bytes()[:-cut])
        _, manifest = await resume(take, devices)
        await idle(devices)
    assert [[file.state for file in camera.files] for camera in manifest.cameras] == [[FileState.ARRIVED]] * 2


async def test_resume_unavailable_camera_later(tmp_path: Path) -> None:
    take = tmp_path / "take"
    async with both(tmp_path) as devices:
        await record_and_kill(tmp_path, devices, said(take, "camera", 2), "--duration", 60, "--start-in", 0.2)
        service = devices[1]
        service.process.kill()
        await service.process.wait()
        code, manifest = await resume(take, devices)
        assert code == 8
        assert [camera.outcome for camera in manifest.cameras] == [Outcome.COMPLETE, Outcome.FAILED]
        assert [error.step for error in manifest.cameras[1].errors] == ["resume"]
        port = service.address.rpartition(":")[2]
        line = ("simulate", "mediamtx", "--http-port", service.http_port, "--directory", service.directory)
        async with started(*line, "--port", port, "--json") as process:
            assert process.stdout is not None
            told = json.loads(await asyncio.wait_for(process.stdout.readline(), 40))
            again = access(devices) | {"ASYNCCAM_TOKEN": told["token"]}
            await asynccam("resume", take, "--host", HOST, "--json", env=again, timeout=120)
            process.terminate()
            await process.communicate()
    manifest = await Manifest.load(take)
    assert len(manifest.resumed) == 2
    assert manifest.cameras[0].outcome is Outcome.COMPLETE
    assert len(manifest.cameras[0].files) == 1


async def test_no_secret_is_in_the_journal(tmp_path: Path) -> None:
    take = tmp_path / "take"
    async with both(tmp_path) as devices:
        await record_and_kill(tmp_path, devices, said(take, "camera", 2), "--duration", 60, "--start-in", 0.2)
        assert token(devices) not in (take / JOURNAL_NAME).read_text()
        assert token(devices) not in (take / "manifest.json").read_text()


async def test_directory_that_is_not_a_take_is_refused_unchanged(tmp_path: Path) -> None:
    (tmp_path / "picture.jpg").write_bytes(b"")
    ended = await asynccam("resume", tmp_path)
    assert (ended.code, ended.out) == (6, "")
    assert "is not the directory of a take" in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["picture.jpg"]
    ended = await asynccam("resume", tmp_path / "nothing")
    assert (ended.code, ended.out) == (6, "")
