"""Recordings of several cameras beside each other, as a video or a single picture, and cut to one length.

GStreamer decodes each file and shows it from a given moment on: files of any container, size and
frame rate. Sound is left out. No file is overwritten, and an unfinished one is removed.
"""

import asyncio
import math
import os
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Final

from asynccam.errors import AsynccamError, RecordingError, TargetExistsError, UsageError
from asynccam.model.safe_files import confined, open_file
from asynccam.recording.bus_messages import first_error
from asynccam.recording.containers.mp4.layout import is_mp4
from asynccam.recording.elements import Chain, Graph, GstElement, PadOf, Value, caps
from asynccam.recording.frame_times import frame_times
from asynccam.recording.gstreamer import find_installation
from asynccam.recording.media_files import MediaFiles
from asynccam.recording.mosaic import timecode
from asynccam.recording.process import NOTHING_TO_FINISH, LaunchProcess
from asynccam.recording.sources import Feed
from asynccam.recording.verify import Verdict, verify_file
from asynccam.runtime.disk import on_disk, rename_new, storage_errors
from asynccam.runtime.tasks import finish
from asynccam.runtime.timing import deadline

_SCALE: Final = 2  # size of the letters
_LABEL_HEIGHT: Final = timecode.text_size(1, _SCALE)[1]  # rows of pixels above each panel, for its label
_BLACK: Final = b"\x10"  # of a grey picture, as video has it: 16 of 255
_SECOND: Final = 1_000_000_000
_HEAD: Final = 1 << 16  # bytes that a format is recognised by
_PICTURES: Final = {".png": "pngenc", ".jpg": "jpegenc", ".jpeg": "jpegenc"}
_MUXERS: Final = {".mp4": "mp4mux", ".mkv": "matroskamux", ".mov": "qtmux"}


@dataclass(frozen=True, slots=True)
class Clip:
    """A file in a mosaic."""

    path: Path
    # Seconds from the beginning of the result to the first frame; below 0, that much of the file is left out.
    begins: float = 0.0
    seconds: float | None = None  # its length, or None if it is not known
    still: bool = False  # whether it is one picture, shown all the time

    def is_visible(self, seconds: float) -> bool:
        """Return whether any of it lies within the first ``seconds`` of the result."""
        return self.still or (
            self.begins < seconds and (self.seconds is None or self.begins + self.seconds > 0)
        )


@dataclass(frozen=True, slots=True)
class Panel:
    """Place of one camera."""

    label: str  # text above it; letters outside ASCII show as ``?``
    clips: tuple[Clip, ...] = ()  # shown one after another; the panel is black without
    note: str = "NO VIDEO"  # text in a panel without clips


async def write_mosaic(
    panels: Sequence[Panel],
    target: Path,
    *,
    seconds: float,
    fps: Fraction = Fraction(25),
    size: tuple[int, int] = (480, 270),
    timeout: float = 600.0,
) -> Path:
    """Put recordings beside each other in one video, left to right and top to bottom.

    ``target`` is ``.mp4``, ``.mov`` or ``.mkv`` and must not exist. It lasts ``seconds``, at ``fps`` frames a
    second; making it may take ``timeout`` seconds. ``size`` is a panel's pixels, even.

    Raises:
        UsageError: There is nothing to show, or the suffix is unknown.
        TargetExistsError, StorageError: The target exists, or cannot be written.
        RecordingError: GStreamer or an element is missing, or a file cannot be decoded.
        TimeoutError: It took longer.
    """
    end = _video_chain(target, "the preview")
    async with _open_files(_paths(panels), target) as files:
        beside = _grid_scene(await _align_panels(panels), size, seconds, fps, files)
        await _render(beside, end, target, timeout)
    return target


async def write_sheet(
    panels: Sequence[Panel], target: Path, *, size: tuple[int, int] = (480, 270), timeout: float = 120.0
) -> Path:
    """Put the first pictures of recordings beside each other in one picture: a contact sheet.

    ``target`` is ``.png``, ``.jpg`` or ``.jpeg``; all else, errors too, is as for `write_mosaic`. Each file
    is decoded from its beginning.
    """
    encoder = _element_for(target, _PICTURES, "the contact sheet")
    # One frame of a rate so high that it shows no more than its own moment.
    async with _open_files(_paths(panels), target) as files:
        beside = _grid_scene(await _align_panels(panels), size, 0.04, Fraction(25), files)
        await _render(beside, (GstElement(encoder),), target, timeout)
    return target


async def write_cut(
    clips: Sequence[Clip], target: Path, *, seconds: float, fps: Fraction, timeout: float = 600.0
) -> Path:
    """Cut a recording, of one file or several, to a stretch of constant frame rate; black where it has gaps.

    The clips' ``begins`` place the stretch. All else, errors too, is as for `write_mosaic`.
    """
    end = _video_chain(target, "the cut recording")
    seen = [clip for clip in clips if clip.is_visible(seconds)]
    if not seen:
        raise UsageError(f"nothing was recorded in the time that {target.name!r} is to show")
    async with _open_files([clip.path for clip in seen], target) as files:
        seen = [await _align_clip(clip) for clip in seen]
        mix = _Compositor(seconds, fps, [clip.begins for clip in seen])
        inputs = [mix.input(index, clip, files, None, {}) for index, clip in enumerate(seen)]
        await _render(_Scene(mix, tuple(inputs), None, files), end, target, timeout)
    return target


def _paths(panels: Sequence[Panel]) -> list[Path]:
    return [clip.path for panel in panels for clip in panel.clips]


@asynccontextmanager
async def _open_files(paths: Sequence[Path], target: Path) -> AsyncIterator[MediaFiles]:
    """Hold the files open for the block; raise RecordingError if one cannot be opened or is unknown."""
    files = MediaFiles()
    try:
        try:
            await on_disk(files.open, tuple(dict.fromkeys(paths)))
        except RecordingError as error:
            raise RecordingError(f"{target.name} could not be made: {error}") from error
        yield files
    finally:
        files.close()


class _Compositor:
    """The compositor: when each input is shown, and for how long all of it is.

    A pad of it can show its input later, never earlier. So all are moved on by the most that any
    input is to lose at its beginning, and the mix begins only there.
    """

    def __init__(self, seconds: float, fps: Fraction, begins: Sequence[float]) -> None:
        if not (math.isfinite(seconds) and seconds > 0 and fps > 0):
            raise UsageError(f"seconds and fps must be > 0, not {seconds} and {fps}")
        self.fps = fps
        self.frames = max(1, math.floor(seconds * fps + 1e-6))
        self._lead = max(0.0, *(-begin for begin in begins), 0.0)
        self._properties: dict[str, Value] = {
            "name": "mix",
            "background": "black",
            "start-time-selection": "set",
            "start-time": round(self._lead * _SECOND),
        }

    def pad(self, index: int, begins: float, properties: dict[str, Value]) -> PadOf:
        """Return an input's pad, later ones in front."""
        pad = {"offset": round((self._lead + begins) * _SECOND), "zorder": index + 1, **properties}
        self._properties |= {f"sink_{index}::{name}": value for name, value in pad.items()}
        return PadOf("mix", f"sink_{index}")

    def input(
        self,
        index: int,
        clip: Clip,
        files: MediaFiles,
        size: tuple[int, int] | None,
        properties: dict[str, Value],
    ) -> Chain:
        """Return a file's chain up to the compositor."""
        fit: Chain = ()
        if size is not None:
            width, height = size
            shape = caps("video/x-raw", width=width, height=height, pixel_aspect_ratio=Fraction(1))
            fit = (GstElement("videoscale", {"add-borders": True}), shape)
        still: Chain = (GstElement("imagefreeze", {"num-buffers": self._still_frames}),) if clip.still else ()
        return (
            *files.decoded(clip.path, {"caps": "video/x-raw(ANY)", "expose-all-streams": False}),
            *still,
            GstElement("videoconvert"),
            *fit,
            *((caps("video/x-raw", framerate=self.fps),) if clip.still else ()),
            self.pad(index, 0.0 if clip.still else clip.begins, properties),
        )

    def canvas(self, index: int, size: tuple[int, int]) -> Chain:
        """Return the chain of the one picture on standard input, under everything."""
        width, height = size
        raw: dict[str, Value] = {"format": "gray8", "width": width, "height": height}
        return (
            GstElement("fdsrc", {"fd": 0, "blocksize": width * height}),
            GstElement("rawvideoparse", {**raw, "framerate": self.fps}),
            GstElement("imagefreeze", {"num-buffers": self._still_frames}),
            GstElement("videoconvert"),
            self.pad(index, 0.0, {"zorder": 0}),
        )

    def output(self, size: tuple[int, int] | None) -> Chain:
        """Return the chain from the compositor on; ends after the last frame."""
        width, height = size or (None, None)
        return (
            GstElement("compositor", dict(self._properties)),
            caps("video/x-raw", format="I420", width=width, height=height, framerate=self.fps),
            GstElement("identity", {"eos-after": self.frames + 1}),  # which it does not let through any more
            GstElement("videoconvert"),
        )

    @property
    def _still_frames(self) -> int:
        return self.frames + math.ceil(self._lead * self.fps) + 5


async def _align_panels(panels: Sequence[Panel]) -> list[Panel]:
    """Return panels whose clips begin where GStreamer shows their first frame."""
    return [
        replace(panel, clips=tuple([await _align_clip(clip) for clip in panel.clips])) for panel in panels
    ]


async def _align_clip(clip: Clip) -> Clip:
    """Count a clip from the beginning of its file's time line instead of its first frame.

    GStreamer lets the first frame of a file begin at 0; in MP4 it follows the edit list, and shows a pause in
    front of the first frame.
    """
    if clip.still:
        return clip
    try:
        if is_mp4(await on_disk(_head, clip.path)):
            async with aclosing(frame_times(clip.path)) as frames:
                first = await anext(frames, None)
            if first is not None and first.time:
                length = None if clip.seconds is None else clip.seconds + first.time
                return replace(clip, begins=clip.begins - first.time, seconds=length)
    except AsynccamError:
        pass  # GStreamer reports its flaw later
    return clip


def _head(path: Path) -> bytes:
    with storage_errors("read", path), os.fdopen(open_file(path), "rb") as file:
        return file.read(_HEAD)


@dataclass(frozen=True, slots=True)
class _Scene:
    """Chains up to the encoder, and the data for standard input."""

    mix: _Compositor
    inputs: tuple[Chain, ...]
    size: tuple[int, int] | None
    files: MediaFiles
    feed: Feed | None = None


def _grid_scene(
    panels: Sequence[Panel], size: tuple[int, int], seconds: float, fps: Fraction, files: MediaFiles
) -> _Scene:
    width, height = size
    if not panels or min(size) < 16 or width % 4 or height % 2:
        raise UsageError(
            f"a mosaic needs panels of a width divisible by 4 and an even height, not {len(panels)} of {size}"
        )
    columns = math.ceil(math.sqrt(len(panels)))
    rows = -(-len(panels) // columns)
    whole = columns * width, rows * (height + _LABEL_HEIGHT)
    visible = [[clip for clip in panel.clips if clip.is_visible(seconds)] for panel in panels]
    begins = [clip.begins for clips in visible for clip in clips if not clip.still]
    mix = _Compositor(seconds, fps, begins)
    inputs = [mix.canvas(0, whole)]
    texts: list[tuple[int, int, str]] = []
    for index, (panel, clips) in enumerate(zip(panels, visible, strict=True)):
        left, top = index % columns * width, index // columns * (height + _LABEL_HEIGHT)
        texts.append((left, top, panel.label))
        if not clips:
            texts.append((left, top + height // 2, panel.note))
        position: dict[str, Value] = {"xpos": left, "ypos": top + _LABEL_HEIGHT}
        for clip in clips:
            inputs.append(mix.input(len(inputs), clip, files, size, position))
    return _Scene(mix, tuple(inputs), whole, files, partial(_canvas, whole, width, texts))


def _canvas(size: tuple[int, int], room: int, texts: Sequence[tuple[int, int, str]]) -> Iterator[bytes]:
    """Yield the picture under the panels: black, with their labels and notes."""
    width, height = size
    picture = bytearray(_BLACK * (width * height))
    most = room // timecode.text_size(1, _SCALE)[0]
    for left, top, text in texts:
        words = text[:most]
        if not words:
            continue
        line = timecode.draw(words, _SCALE)
        across, down = timecode.text_size(len(words), _SCALE)
        across_seen = min(across, room)
        for row in range(down):
            begin = (top + row) * width + left
            picture[begin : begin + across_seen] = line[row * across : row * across + across_seen]
    yield bytes(picture)


def _element_for(target: Path, elements: Mapping[str, str], what: str) -> str:
    """Return the element that writes files of the target's suffix."""
    element = elements.get(target.suffix.lower())
    if element is None:
        raise UsageError(f"{target.name!r}: {what}'s name must end in {', '.join(elements)}")
    return element


def _video_chain(target: Path, what: str) -> Chain:
    encoder: dict[str, Value] = {"pass": "quant", "quantizer": 21, "speed-preset": "veryfast"}
    muxer = _element_for(target, _MUXERS, what)
    return (
        GstElement("x264enc", encoder),
        GstElement("h264parse"),
        GstElement(muxer, {"offset-to-zero": True} if muxer == "matroskamux" else {}),
    )


async def _render(scene: _Scene, end: Chain, target: Path, timeout: float) -> None:
    """Run a scene into a file that gets its name once it is whole."""
    fresh = target.with_name(f".{uuid.uuid4().hex[:12]}{target.suffix}")
    sink = GstElement("filesink", {"location": str(fresh.absolute())})
    main = (*scene.mix.output(scene.size), *end, sink)
    graph = Graph((main, *scene.inputs))
    tools = await find_installation(graph.factories)
    await on_disk(_check_target, target)
    try:
        async with deadline(timeout, f"end of the work on {target.name}"):
            await _run([*tools.guard, tools.launch, "-q", *graph.arguments()], scene, target)
            if target.suffix.lower() in _MUXERS:
                with confined(None):  # the target may be in any directory
                    found = await verify_file(fresh)
                if found.verdict is not Verdict.COMPLETE:
                    raise RecordingError(f"{target.name} could not be made: {found.detail}")
        await on_disk(_publish, fresh, target)
    finally:
        await finish(asyncio.to_thread(fresh.unlink, missing_ok=True))


async def _run(argv: Sequence[str], scene: _Scene, target: Path) -> None:
    feed = None if scene.feed is None else scene.feed()
    process = await LaunchProcess.start(argv, lambda _: None, feed=feed, pass_fds=scene.files.fds)
    try:
        status = await process.wait()
    finally:
        await process.stop(NOTHING_TO_FINISH)
    if status:
        error = first_error(process.errors)
        why = error.text if error is not None else f"gst-launch-1.0 ended with status {status}"
        raise RecordingError(f"{target.name} could not be made: {why}", output=process.output)


def _check_target(target: Path) -> None:
    with storage_errors("write", target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            raise TargetExistsError(f"{target} exists and is not overwritten")


def _publish(fresh: Path, target: Path) -> None:
    with storage_errors("write", target):
        if not fresh.exists() or not fresh.stat().st_size:
            raise RecordingError(f"{target.name} could not be made: GStreamer wrote no picture")
        try:
            rename_new(fresh, target)
        except FileExistsError:
            raise TargetExistsError(f"{target} exists and is not overwritten") from None
