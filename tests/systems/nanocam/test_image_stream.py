"""Pictures at an interval, taken by real pipelines."""

import asyncio
import tempfile
from pathlib import Path
from typing import Literal

import av
import pytest

from asynccam.errors import RecordingError, StateError, StorageError, UsageError
from asynccam.recording import Verdict
from asynccam.recording.elements import Graph
from asynccam.recording.events import RecorderEnded, RecorderStarted
from asynccam.runtime.event_hub import EventHub
from asynccam.runtime.timing import Clock
from asynccam.systems.nanocam.csi.camera import CSIcamera
from asynccam.systems.nanocam.csi.graph import Media
from asynccam.systems.nanocam.csi.streams import SETTLE, ImageStream
from asynccam.systems.nanocam.tools import CSIcamera as MakersCamera
from asynccam.systems.nanocam.tools import ImageStream as MakersImageStream
from asynccam.systems.nanocam.tools import VideoStream as MakersVideoStream
from tests.support.gst import LAUNCH, gst_processes
from tests.support.waiting import eventually

Sink = Literal["file", "opencv"]


def small(**settings: object) -> CSIcamera:
    return CSIcamera().copy(resolution=(160, 120), framerate=100, **settings)


def stream(
    tmp_path: Path, frames: int = 1, interval: float = 0, sink: Sink = "file", camera: CSIcamera | None = None
) -> ImageStream:
    """A stream whose pictures settle quickly, in directories of the test."""
    made = ImageStream(frames, interval, sink=sink)
    made.media_path, made.tmppath = tmp_path / "media", tmp_path / "tmp"
    made.media_path.mkdir(exist_ok=True)
    made.tmppath.mkdir(exist_ok=True)
    made.settle = 3
    made.connect_camera(camera or small())
    return made


def size_of(path: Path) -> tuple[int, int]:
    with av.open(str(path)) as container:
        (frame,) = container.decode(video=0)
        assert isinstance(frame, av.VideoFrame)
        return frame.width, frame.height


async def test_pictures_are_files_named_by_the_second(tmp_path: Path) -> None:
    pictures = stream(tmp_path, 3, 0.05)
    result = await pictures.start_stream()
    assert len(result.files) == len(result.taken_at) == 3
    assert result.frames == ()
    assert list(result.taken_at) == sorted(result.taken_at)
    assert sorted(result.files) == sorted((tmp_path / "media").iterdir())
    for path, verdict in zip(result.files, result.verdicts, strict=True):
        assert (verdict.path, verdict.verdict, verdict.frames) == (path, Verdict.COMPLETE, 1)
        assert size_of(path) == (160, 120)
    assert list((tmp_path / "tmp").iterdir()) == []
    assert gst_processes(tmp_path) == []


async def test_pictures_in_memory(tmp_path: Path) -> None:
    result = await stream(tmp_path, 2, sink="opencv", camera=small(flip_method="clockwise")).start_stream()
    assert (len(result.frames), len(result.taken_at), result.files, result.verdicts) == (2, 2, (), ())
    for frame in result.frames:
        assert (frame.shape, frame.dtype.name) == ((160, 120, 3), "uint8")
        assert frame.flags.c_contiguous
        assert frame.max() > frame.min()
    assert list((tmp_path / "media").iterdir()) == []


async def last_frame(media: Media, *tail: str) -> bytes:
    """Return what twenty frames of the stand-in's picture end with, by a pipeline of the test's own."""
    source = small().source(media, frames=20).stream(frozenset()).chain
    process = await asyncio.create_subprocess_exec(
        LAUNCH, "-q", *Graph((source,)).arguments(), *tail, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    return output


async def test_picture_is_the_last_of_twenty_frames(tmp_path: Path) -> None:
    pictures = stream(tmp_path)
    pictures.settle = ImageStream(1, 1).settle
    assert pictures.settle == SETTLE == 20
    (path,) = (await pictures.start_stream()).files
    await last_frame("pictures", "!", "multifilesink", f"location={tmp_path}/%d.jpg")
    assert path.read_bytes() == (tmp_path / "19.jpg").read_bytes()
    assert path.read_bytes() != (tmp_path / "18.jpg").read_bytes()  # the ball moves


async def test_picture_in_memory_is_the_last_of_twenty_frames(tmp_path: Path) -> None:
    pictures = stream(tmp_path, sink="opencv")
    pictures.settle = SETTLE
    (frame,) = (await pictures.start_stream()).frames
    form = ["capsfilter", 'caps="video/x-raw,format=BGR"']
    output = await last_frame("raw", "!", "videoconvert", "!", *form, "!", "fdsink")
    assert output[-frame.nbytes :] == frame.tobytes()
    assert output[-2 * frame.nbytes : -frame.nbytes] != frame.tobytes()


@pytest.mark.parametrize("settings", [{"num_buffers": 2}, {"timeout": 1}])
async def test_length_set_on_the_camera_takes_precedence(tmp_path: Path, settings: dict[str, object]) -> None:
    camera = CSIcamera().copy(resolution=(160, 120), framerate=4, **settings)
    pictures = stream(tmp_path, camera=camera)
    pictures.settle = 10_000
    assert len((await pictures.start_stream()).files) == 1


async def test_temporary_directory_keeps_other_files(tmp_path: Path) -> None:
    pictures = stream(tmp_path, 2)
    foreign = tmp_path / "tmp" / "frame-00000.jpg"
    foreign.write_bytes(b"mine")
    work = asyncio.ensure_future(pictures.start_stream())

    def own() -> list[Path]:
        return [path for path in (tmp_path / "tmp").iterdir() if path.is_dir()]

    (folder,) = await eventually(own, 20)
    (folder / "notes.txt").write_text("mine too")
    await work
    assert foreign.read_bytes() == b"mine"
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    assert own() == [folder]


async def test_default_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    pictures = stream(tmp_path)
    pictures.tmppath = None
    await pictures.start_stream()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["media", "tmp"]


async def test_two_streams_in_the_same_second(tmp_path: Path) -> None:
    results = await asyncio.gather(*(stream(tmp_path, 2).start_stream() for _ in range(3)))
    files = [path for result in results for path in result.files]
    assert len(set(files)) == 6
    assert sorted(files) == sorted((tmp_path / "media").iterdir())


# -- the clock --------------------------------------------------------------------------------------


class LateClock(Clock):
    """A clock by which pictures take ``busy`` seconds each, and every wait ends ``late``."""

    def __init__(self, late: float, *busy: float) -> None:
        self.now = 1000.0
        self.late = late
        self.busy = iter(busy)
        self.woken: list[float] = []

    def time(self) -> float:
        """Asked once for each picture, when it is there."""
        self.now += next(self.busy)
        return self.now

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)
        self.now += seconds + self.late
        self.woken.append(self.now)


@pytest.mark.parametrize(
    ("clock", "woken"),
    [
        (LateClock(0.25, 1.5, 1.5, 1.5, 1.5), [1005.25, 1010.25, 1015.25]),
        (LateClock(0.0, 4.0, 4.5, 0.0, 1.0), [1005.0, 1010.0, 1015.0]),
        # The first is done when the second has been due for 2 s: that one begins at once, the third in time.
        (LateClock(0.0, 7.0, 1.0, 1.0, 1.0), [1010.0, 1015.0]),
        (LateClock(0.0, 7.0, 7.0, 7.0, 7.0), []),
    ],
)
async def test_intervals_do_not_drift(clock: LateClock, woken: list[float]) -> None:
    pictures = ImageStream(4, 5.0, sink="opencv", clock=clock)
    pictures.settle = 1
    pictures.connect_camera(small())
    assert len((await pictures.start_stream()).frames) == 4
    assert clock.woken == woken


async def test_interval_by_the_real_clock(tmp_path: Path) -> None:
    result = await stream(tmp_path, 3, 1.0).start_stream()
    first, _, last = result.taken_at
    assert last - first > 1.0  # the third is begun 2 s after the first is


# -- stopping ---------------------------------------------------------------------------------------


async def test_stop_between_two_pictures(tmp_path: Path) -> None:
    pictures = stream(tmp_path, 100, 3600)
    work = asyncio.ensure_future(pictures.start_stream())
    await eventually(lambda: list((tmp_path / "media").iterdir()), 20)
    assert pictures.running
    await pictures.stop()
    assert not pictures.running
    assert len((await work).files) == 1
    await pictures.stop()


@pytest.mark.parametrize("sink", ["file", "opencv"])
async def test_stop_during_a_picture(tmp_path: Path, sink: Sink) -> None:
    hub = EventHub()
    pictures = ImageStream(2, 0, sink=sink, events=hub)
    pictures.media_path, pictures.tmppath = tmp_path, tmp_path
    pictures.settle = 1_000_000
    pictures.connect_camera(small())
    with hub.stream(RecorderStarted, RecorderEnded) as events:
        work = asyncio.ensure_future(pictures.start_stream())
        async with asyncio.timeout(20):
            assert isinstance(await anext(events), RecorderStarted)
        await pictures.stop()
        assert (await work).taken_at == ()
    assert list(tmp_path.iterdir()) == []
    await hub.aclose()


async def test_stop_while_the_camera_opens(tmp_path: Path) -> None:
    pictures = stream(tmp_path)
    work = asyncio.ensure_future(pictures.start_stream())
    await eventually(lambda: list((tmp_path / "tmp").iterdir()), 20)
    await pictures.stop()
    result = await work
    assert len(result.files) <= 1
    assert list((tmp_path / "tmp").iterdir()) == []


async def test_start_again_but_not_twice_at_once(tmp_path: Path) -> None:
    pictures = stream(tmp_path)
    await pictures.stop()  # never started
    work = asyncio.ensure_future(pictures.start_stream())
    await eventually(lambda: pictures.running, 10)
    with pytest.raises(StateError, match="running"):
        await pictures.start_stream()
    await work
    assert len((await pictures.start_stream()).files) == 1
    assert len(list((tmp_path / "media").iterdir())) == 2


# -- refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frames", "interval", "sink"),
    [(0, 1, "file"), (1, -1, "file"), (1, float("nan"), "file"), (1, 1, "udp")],
)
def test_invalid_arguments(frames: int, interval: float, sink: Sink) -> None:
    with pytest.raises(UsageError):
        ImageStream(frames, interval, sink=sink)


async def test_start_without_camera_or_directory(tmp_path: Path) -> None:
    pictures = ImageStream(1, 1)
    with pytest.raises(StateError, match="connect_camera"):
        await pictures.start_stream()
    pictures.connect_camera(small())
    with pytest.raises(UsageError, match="media_path"):
        await pictures.start_stream()
    pictures.media_path = tmp_path / "missing"
    with pytest.raises(StorageError, match="missing"):
        await pictures.start_stream()
    pictures.media_path = tmp_path
    pictures.tmppath = tmp_path / "missing"
    with pytest.raises(StorageError, match="missing"):
        await pictures.start_stream()
    pictures.settle = 0
    with pytest.raises(UsageError, match="1 frame or more"):
        await pictures.start_stream()
    assert not pictures.running


async def test_missing_device_is_named(tmp_path: Path) -> None:
    camera = CSIcamera(device="/dev/video-none", resolution=(160, 120))
    with pytest.raises(RecordingError, match="/dev/video-none"):
        await stream(tmp_path, camera=camera).start_stream()
    assert list((tmp_path / "tmp").iterdir()) == list((tmp_path / "media").iterdir()) == []


async def test_memory_limit(tmp_path: Path) -> None:
    pictures = stream(tmp_path, 3, sink="opencv")
    pictures.memory = 2 * 160 * 120 * 3
    with pytest.raises(RecordingError, match="memory"):
        await pictures.start_stream()
    pictures.frames = 2
    assert len((await pictures.start_stream()).frames) == 2


# -- the maker's examples ---------------------------------------------------------------------------


async def test_makers_example_of_pictures(tmp_path: Path) -> None:
    cam = MakersCamera()
    cam.set_sensorid("0")
    cam.set_exposure_time(500000, 100000000)
    cam.set_resolution(160, 120)
    cam.set_framerate(100)
    imgstream = MakersImageStream(3, 0.1, sink="file")
    imgstream.media_path = str(tmp_path)
    imgstream.connect_camera(cam)
    await imgstream.start_stream()
    assert len(list(tmp_path.iterdir())) == 3


def test_makers_example_of_a_video() -> None:
    video = MakersImageStream(10, src="camera", sink="file")
    assert isinstance(video, MakersVideoStream)
    assert (video.duration, video.src, video.sink) == (10, "camera", "file")
    assert isinstance(MakersImageStream(10, 1), ImageStream)
    with pytest.raises(UsageError, match="takes pictures"):
        MakersImageStream(10)  # type: ignore[call-overload] # what is refused
    with pytest.raises(UsageError, match="takes pictures"):
        MakersImageStream(10, 1, src="camera")  # type: ignore[call-overload] # what is refused
