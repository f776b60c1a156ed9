"""Cancelled at any await, a stream leaves no process, descriptor or temporary file, and no empty file."""

import asyncio
from pathlib import Path
from typing import Literal

import pytest

from asynccam.recording import Verdict, verify_file
from asynccam.systems.nanocam.csi.camera import CSIcamera
from asynccam.systems.nanocam.csi.frames import FramePipe
from asynccam.systems.nanocam.csi.streams import ImageStream, VideoStream
from tests.support.cancelling import cancelled_at
from tests.support.gst import free_udp_port, gst_processes
from tests.support.waiting import eventually

Sink = Literal["file", "opencv"]


def small() -> CSIcamera:
    return CSIcamera(resolution=(160, 120), framerate=100)


async def whole(path: Path) -> bool:
    return (await verify_file(path)).verdict is Verdict.COMPLETE


@pytest.mark.parametrize("sink", ["file", "opencv"])
async def test_pictures_cancelled_at_each_await_in_turn(tmp_path: Path, sink: Sink) -> None:
    media, work = tmp_path / "media", tmp_path / "work"
    media.mkdir()
    work.mkdir()
    count = 0

    async def take() -> None:
        pictures = ImageStream(2, 0.01, sink=sink)
        pictures.media_path, pictures.tmppath, pictures.settle = media, work, 2
        pictures.connect_camera(small())
        try:
            await pictures.start_stream()
        finally:
            assert not pictures.running

    while await cancelled_at(take(), count := count + 1):
        assert gst_processes(work) == []
        assert list(work.iterdir()) == []
        for path in media.iterdir():
            assert await whole(path)
    assert count >= 8


async def film(media: Path, sink: Literal["file", "opencv", "hls", "udp"], number: int) -> None:
    async with VideoStream(0.2, sink=sink) as video:
        video.media_path = media
        video.hls_playloc, video.hls_loc = media / f"{number}.m3u8", media / f"{number}-%05d.ts"
        video.set_host("127.0.0.1")
        video.port = free_udp_port()
        video.connect_camera(small())
        await video.start()
        await asyncio.sleep(0)
        await video.wait()
        await video.stop()


@pytest.mark.parametrize("sink", ["file", "opencv", "hls", "udp"])
async def test_video_cancelled_at_each_await_in_turn(
    tmp_path: Path, sink: Literal["file", "opencv", "hls", "udp"]
) -> None:
    count = 0
    while await cancelled_at(film(tmp_path, sink, count + 1), count := count + 1):
        assert gst_processes(tmp_path) == []
        for path in tmp_path.iterdir():
            assert path.suffix == ".m3u8" or await whole(path)
            path.unlink()
    assert count >= 4


@pytest.mark.parametrize("sink", ["file", "opencv"])
@pytest.mark.parametrize("milliseconds", [0, 1, 3, 10, 30, 100, 250])
async def test_video_cancelled_at_any_time(tmp_path: Path, sink: Sink, milliseconds: int) -> None:
    video = VideoStream(0.3, sink=sink)
    video.media_path = tmp_path
    video.connect_camera(small())
    work = asyncio.ensure_future(video.start_stream())
    await asyncio.sleep(milliseconds / 1000)
    work.cancel()
    await asyncio.wait({work})
    assert not video.running
    assert gst_processes(tmp_path) == []
    for path in tmp_path.iterdir():
        assert await whole(path)


async def test_pictures_cancelled_during_the_interval(tmp_path: Path) -> None:
    pictures = ImageStream(2, 3600)
    pictures.media_path, pictures.settle = tmp_path, 2
    pictures.connect_camera(small())
    work = asyncio.ensure_future(pictures.start_stream())
    await eventually(lambda: list(tmp_path.iterdir()), 20)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    (path,) = tmp_path.iterdir()
    assert await whole(path)


async def test_cancelled_wait_leaves_the_video_running(tmp_path: Path) -> None:
    async with VideoStream(None) as video:
        video.media_path = tmp_path
        video.connect_camera(small())
        await video.start()
        waiting = asyncio.ensure_future(video.wait())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert video.running
        result = await video.stop()
    assert result is not None
    assert [one.verdict for one in result.verdicts] == [Verdict.COMPLETE]


async def test_cancelled_stop_finishes_the_file(tmp_path: Path) -> None:
    async with VideoStream(None) as video:
        video.media_path = tmp_path
        video.connect_camera(small())
        await video.start()
        stopping = asyncio.ensure_future(video.stop())
        await asyncio.sleep(0)
        stopping.cancel()
        await asyncio.wait({stopping})
        assert stopping.cancelled()
    (path,) = tmp_path.iterdir()
    assert await whole(path)


async def test_two_stops_return_the_same(tmp_path: Path) -> None:
    async with VideoStream(None) as video:
        video.media_path = tmp_path
        video.connect_camera(small())
        await video.start()
        waited, first, second = await asyncio.gather(video.wait(), video.stop(), video.stop())
    assert waited == first == second


async def test_pipe_cancelled_during_open() -> None:
    count = 0

    async def use() -> None:
        pipe = FramePipe("all", 1 << 20)
        try:
            await pipe.open()
            pipe.close_writing_end()
            await pipe.drained(10)
        finally:
            await pipe.aclose()

    while await cancelled_at(use(), count := count + 1):
        pass
    assert count >= 3
