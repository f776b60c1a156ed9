"""Streams that stop and return, cameras that are unplugged, servers that die: during a recording."""

from dataclasses import replace
from pathlib import Path

from asynccam.errors import ConnectionError, NotFoundError
from asynccam.recording import FileVerdict, RecorderResumed, RecorderStalled, Verdict, Watch
from asynccam.systems.thorvision import Camera, ServerFaults, ThorVisionSimulator
from asynccam.systems.thorvision.ports import is_free
from tests.support.waiting import eventually
from tests.systems.thorvision.rig import PICTURE, QUICK, Rig, device, frames_sent, rig

WATCHFUL = replace(QUICK, watch=Watch(interval=0.1, stall=2.0))


async def record(made: Rig, directory: Path) -> None:
    await made.client.start_stream_with_recording(made.camera, PICTURE, output_dir=directory)


def only(files: tuple[FileVerdict, ...]) -> FileVerdict:
    (file,) = files
    assert file.verdict is Verdict.COMPLETE
    return file


async def test_stream_that_stops_and_returns_leaves_a_gap(tmp_path: Path) -> None:
    async with rig(settings=replace(WATCHFUL, renew=False)) as made:
        await record(made, tmp_path)
        stream = made.simulator.streams[0]
        await frames_sent(made.simulator, 15)
        stream.break_off()
        await eventually(lambda: made.of(RecorderStalled), timeout=5)
        stream.begin_again()
        await eventually(lambda: made.of(RecorderResumed), timeout=8)
        stopped = await made.client.stop_stream(0)
        assert made.posts() == ["/stop", "/jpeg", "/stop"]
    (gap,) = stopped.gaps
    assert 2.0 <= gap.ended - gap.began < 8
    file = only(stopped.files)
    assert file.duration is not None
    assert file.duration > 2.0


async def test_frames_missing_on_an_open_connection(tmp_path: Path) -> None:
    async with rig(settings=replace(WATCHFUL, renew=False)) as made:
        await record(made, tmp_path)
        made.simulator.streams[0].paused = True
        await eventually(lambda: made.of(RecorderStalled), timeout=5)
        made.simulator.streams[0].paused = False
        await eventually(lambda: made.of(RecorderResumed), timeout=5)
        only((await made.client.stop_stream(0)).files)


async def test_stream_that_dies_is_requested_again(tmp_path: Path) -> None:
    """Also under another number, as the camera may have been unplugged."""
    async with rig(settings=WATCHFUL) as made:
        await record(made, tmp_path)
        await made.simulator.unplug(0)
        await made.simulator.plug(Camera(**{**device(0).model_dump(), "id": 40}))
        await eventually(lambda: made.of(RecorderResumed), timeout=9)
        (stream,) = made.simulator.streams.values()
        assert made.ports() == [stream.port] * 2
        stopped = await made.client.stop_stream(0)
        only(stopped.files)
        assert stopped.server_error is None
        assert not made.simulator.streams
        assert made.simulator.requests[-1].body == {"id": 40}


async def test_server_restarted_during_a_recording(tmp_path: Path) -> None:
    async with rig(settings=WATCHFUL) as made:
        await record(made, tmp_path)
        port = made.simulator.port
        await made.simulator.aclose()
        await eventually(lambda: made.of(RecorderStalled), timeout=5)
        async with ThorVisionSimulator(made.cameras, port=port) as again:
            await eventually(lambda: made.of(RecorderResumed), timeout=9)
            assert again.streams[0].sent > 0
            only((await made.client.stop_stream(0)).files)


async def test_server_that_dies_leaves_a_complete_file(tmp_path: Path) -> None:
    async with rig(ServerFaults(die_after=0.8)) as made:
        await record(made, tmp_path)
        port = made.simulator.streams[0].port
        await eventually(lambda: is_free(port), what="the stream dies")
        await made.simulator.aclose()
        stopped = await made.client.stop_stream(0)
        file = only(stopped.files)
        assert file.frames is not None
        assert file.frames > 3
        assert isinstance(stopped.server_error, ConnectionError)
        assert not made.client.ports.used


async def test_other_camera_in_its_place_is_left_alone(tmp_path: Path) -> None:
    """The server lists a camera with the same key and another serial number during a recording."""
    recorded, other = (Camera(**device(0).model_dump(), serial=serial) for serial in ("A1", "B2"))
    async with rig(settings=WATCHFUL, cameras=(recorded,)) as made:
        await record(made, tmp_path)
        await made.simulator.unplug(0)
        await made.simulator.plug(other)
        made.simulator.requests.clear()
        # The recorder stalls, and the client lists the cameras; a second time only after the first answer.
        await eventually(lambda: len(made.simulator.requests) > 1, timeout=20)
        stopped = await made.client.stop_stream(0)
        assert made.posts() == []
    only(stopped.files)
    assert isinstance(stopped.server_error, NotFoundError)
    assert "'B2', not" in str(stopped.server_error)
