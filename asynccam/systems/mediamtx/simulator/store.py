"""Files of a simulated service: real recordings and pictures, made by GStreamer."""

import asyncio
import shutil
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Final

from asynccam.errors import RecordingError, StorageError
from asynccam.recording.elements import Graph, GstElement, caps
from asynccam.recording.gstreamer import find_installation
from asynccam.recording.outputs import SingleFile
from asynccam.recording.pipeline import Pipeline
from asynccam.recording.process import LaunchProcess
from asynccam.recording.recorder import Limits, Recorder
from asynccam.recording.sources import TestPattern
from asynccam.runtime.tasks import finish, finish_on_error
from asynccam.runtime.timing import deadline
from asynccam.systems.mediamtx.simulator.cameras import FinishRecording, SimCamera
from asynccam.wall_clock import WALL_CLOCK, local_now, unix_now

RECORDINGS: Final = "recordings"
SNAPSHOTS: Final = "snapshots"
KINDS: Final = (RECORDINGS, SNAPSHOTS)
_FIRST_FRAME_TIMEOUT: Final = 15.0
_PATTERNS: Final = ("pinwheel", "ball", "smpte", "spokes")
"""Test pictures of cameras, by their devices."""
_CLIP_SECONDS: Final = 0.5
_WIDTH: Final = 320
_HEIGHT: Final = 180
_FPS: Final = 15
_PICTURE_TIMEOUT: Final = 20.0


class MediaTemplates:
    """One recording and one picture that all files are copies of, made when first needed unless given."""

    def __init__(self, directory: Path, clip: Path | None, picture: Path | None) -> None:
        self._directory = directory
        self._paths = {RECORDINGS: clip, SNAPSHOTS: picture}
        self._lock = asyncio.Lock()

    async def get(self, kind: str) -> Path:
        """Return the file of a kind; raise `RecordingError` if it cannot be made."""
        async with self._lock:
            path = self._paths[kind]
            if path is None:
                path = self._paths[kind] = await self._made(kind)
            return path

    async def _made(self, kind: str) -> Path:
        name, make = ("clip.mp4", _make_clip) if kind == RECORDINGS else ("picture.jpg", _make_picture)
        path = self._directory / name
        if await asyncio.to_thread(path.exists):  # of an earlier service with this directory
            return path
        fresh = self._directory / f"new-{name}"
        await asyncio.to_thread(fresh.unlink, missing_ok=True)
        await make(fresh)
        return await asyncio.to_thread(fresh.replace, path)


@dataclass(frozen=True, slots=True)
class ServedFile:
    """A file of the service: size in bytes, ``modified`` in Unix seconds.

    ``began`` is when it was made, as elapsed time: measured if ``made_here``, else derived from ``modified``
    and the time of day when the service was opened.
    """

    name: str
    path: Path
    size: int
    modified: float
    began: float
    made_here: bool

    def age(self) -> float:
        """Return the file's age in seconds, which setting the clock does not increase."""
        age = WALL_CLOCK.elapsed() - self.began
        # The time of day may have been wrong when the file was found.
        return age if self.made_here else min(age, unix_now() - self.modified)


class FileStore:
    """Files of a service by kind and name; those of an earlier service in the directory are found again.

    With ``live`` GStreamer records each file; otherwise files copy the templates. ``files`` holds the
    files of each of `KINDS` by name, oldest first.
    """

    def __init__(self, directory: Path, templates: MediaTemplates, *, live: bool) -> None:
        self.directory = directory
        self.files: dict[str, dict[str, ServedFile]] = {kind: {} for kind in KINDS}
        self._templates = templates
        self._live = live
        self._used_names: set[str] = set()

    async def open(self) -> None:
        """Create the directories and list their files; raise `StorageError` on failure."""
        try:
            for kind in KINDS:
                found = await asyncio.to_thread(_scan, self.directory / kind)
                self.files[kind] = {file.name: file for file in found}
                self._used_names.update(self.files[kind])
        except OSError as error:
            raise StorageError(f"cannot use {self.directory}: {error}") from error

    def free_name(self, stem: str, suffix: str) -> str:
        """Reserve and return an unused name."""
        stamp = local_now().strftime("%Y-%m-%d_%H-%M-%S")
        name, count = f"{stem}_{stamp}{suffix}", 0
        while name in self._used_names:
            count += 1
            name = f"{stem}_{stamp}_{count}{suffix}"
        self._used_names.add(name)
        return name

    def path(self, kind: str, name: str) -> Path:
        """Return the path of a file."""
        return self.directory / kind / name

    async def record(self, camera: SimCamera, path: Path) -> FinishRecording:
        """Start a recording; raise `RecordingError`, `TimeoutError` or `StorageError`."""
        if not self._live:
            # Made now, if it has to be: the stop only copies it.
            return partial(_copy, await self._templates.get(RECORDINGS), path)
        width, _, height = camera.resolution.partition("x")
        source = TestPattern(
            label=camera.name,
            pattern=_PATTERNS[ord(camera.device[-1]) % len(_PATTERNS)],
            width=int(width),
            height=int(height),
            fps=Fraction(camera.fps),
            time_code="day",
        )
        recorder = Recorder(Pipeline(source, SingleFile(path)), name=path.name)
        async with finish_on_error(recorder.aclose):
            await recorder.start(timeout=_FIRST_FRAME_TIMEOUT)
        return partial(_stop_recorder, recorder)

    async def take_picture(self, name: str) -> ServedFile:
        """Make a picture, replacing one of the same name; errors as of `record`."""
        await _copy(await self._templates.get(SNAPSHOTS), self.path(SNAPSHOTS, name))
        self._used_names.add(name)
        return await self.add(SNAPSHOTS, name)

    async def add(self, kind: str, name: str) -> ServedFile:
        """Add a file that was written; raise `StorageError` if it does not exist."""
        path = self.path(kind, name)
        try:
            status = await asyncio.to_thread(path.stat)
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error}") from error
        file = ServedFile(
            name, path, status.st_size, status.st_mtime, began=WALL_CLOCK.elapsed(), made_here=True
        )
        self.files[kind].pop(name, None)
        self.files[kind][name] = file
        return file

    async def delete(self, kind: str, name: str) -> None:
        """Delete a file, if it exists."""
        file = self.files[kind].pop(name, None)
        if file is not None:
            await asyncio.to_thread(file.path.unlink, missing_ok=True)

    async def read(self, file: ServedFile, start: int, size: int) -> bytes:
        """Return at most ``size`` bytes of a file."""

        def read() -> bytes:
            with file.path.open("rb") as stream:
                stream.seek(start)
                return stream.read(size)

        return await asyncio.to_thread(read)

    async def disk_usage(self) -> tuple[int, int, int]:
        """Return total, used and free bytes of the disk."""
        return await asyncio.to_thread(shutil.disk_usage, self.directory)


async def _make_clip(path: Path) -> None:
    """Record half a second of a test picture."""
    source = TestPattern(label="simulated", width=_WIDTH, height=_HEIGHT, fps=Fraction(_FPS), bitrate=300)
    limits = Limits(seconds=_CLIP_SECONDS)
    async with Recorder(Pipeline(source, SingleFile(path)), name=path.name, limits=limits) as recorder:
        await recorder.start(timeout=_PICTURE_TIMEOUT)
        verdicts = await recorder.wait()
    if not verdicts or not verdicts[-1].frames:
        raise RecordingError(f"no recording could be made: {recorder.error or 'it has no frame'}")


async def _make_picture(path: Path) -> None:
    """Encode one test picture to JPEG."""
    chain = (
        GstElement("videotestsrc", {"num-buffers": 1}),
        caps("video/x-raw", format="I420", width=_WIDTH, height=_HEIGHT),
        GstElement("jpegenc"),
        GstElement("filesink", {"location": str(path)}),
    )
    graph = Graph((chain,))
    tools = await find_installation(graph.factories)
    argv = [*tools.guard, tools.launch, "-q", *graph.arguments()]
    process = await LaunchProcess.start(argv, lambda _: None)
    try:
        async with deadline(_PICTURE_TIMEOUT, "test picture from GStreamer"):
            status = await process.wait()
    finally:
        await process.stop()
    if status:
        raise RecordingError("no picture could be made", output=process.output)


async def _stop_recorder(recorder: Recorder) -> None:
    try:
        await recorder.stop()
    finally:
        await finish(recorder.aclose())


async def _copy(source: Path, target: Path) -> None:
    try:
        await asyncio.to_thread(shutil.copyfile, source, target)
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error}") from error


def _scan(directory: Path) -> list[ServedFile]:
    directory.mkdir(parents=True, exist_ok=True)
    found = []
    wall, elapsed = WALL_CLOCK.pair()
    for path in directory.iterdir():
        status = path.stat()
        began = elapsed - max(0.0, wall - status.st_mtime)
        found.append(
            ServedFile(path.name, path, status.st_size, status.st_mtime, began=began, made_here=False)
        )
    return sorted(found, key=lambda file: (file.modified, file.name))
