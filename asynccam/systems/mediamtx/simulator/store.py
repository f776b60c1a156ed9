"""The disk of a simulated service: recordings and pictures that are real files."""

import asyncio
import shutil
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

from asynccam.errors import StorageError
from asynccam.recording.outputs import SingleFile
from asynccam.recording.pipeline import Pipeline
from asynccam.recording.recorder import Recorder
from asynccam.recording.sources import TestPattern
from asynccam.runtime.tasks import finish
from asynccam.systems.mediamtx.simulator.cameras import Filming, SimCamera
from asynccam.systems.mediamtx.simulator.media import Clips
from asynccam.wall_clock import WALL_CLOCK, local_now, unix_now

RECORDINGS: Final = "recordings"
SNAPSHOTS: Final = "snapshots"
KINDS: Final = (RECORDINGS, SNAPSHOTS)
_FIRST_FRAME: Final = 15.0
_PATTERNS: Final = ("pinwheel", "ball", "smpte", "spokes")
"""Test pictures of cameras, by their devices."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of the service.

    Attributes:
        name: Its name.
        path: Where it is.
        size: Bytes.
        modified: Unix seconds.
        began: When it was made, by elapsed time: as this service saw it, or as the file's time and that of
            day told when the service was opened.
        made_here: Whether this service made it.
    """

    name: str
    path: Path
    size: int
    modified: float
    began: float
    made_here: bool

    def age(self) -> float:
        """Seconds for which it is there; setting the clock makes no file old."""
        age = WALL_CLOCK.elapsed() - self.began
        # The time of day may have been wrong when the file was found.
        return age if self.made_here else min(age, unix_now() - self.modified)


class _Copied:
    """A recording that is a copy of the one that was made before."""

    def __init__(self, clips: Clips, path: Path) -> None:
        self._clips = clips
        self._path = path

    async def finish(self) -> None:
        """Put the copy there."""
        await self._clips.record_to(self._path)


class _Filmed:
    """A recording that GStreamer makes meanwhile."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    async def finish(self) -> None:
        """Finish the file."""
        try:
            await self._recorder.stop()
        finally:
            await finish(self._recorder.aclose())


class Store:
    """The files of a service, by kind and name.

    Args:
        directory: Where they are kept; files of an earlier service there are found again.
        clips: What recordings and pictures are copies of.
        live: Whether GStreamer records anew each time instead.

    Attributes:
        files: For each of `KINDS` its files by name, oldest first.
    """

    def __init__(self, directory: Path, clips: Clips, *, live: bool) -> None:
        self.directory = directory
        self.files: dict[str, dict[str, StoredFile]] = {kind: {} for kind in KINDS}
        self._clips = clips
        self._live = live
        self._taken: set[str] = set()

    async def open(self) -> None:
        """Make the directories, and look what is there.

        Raises:
            StorageError: They cannot be made or read.
        """
        try:
            for kind in KINDS:
                found = await asyncio.to_thread(_scan, self.directory / kind)
                self.files[kind] = {one.name: one for one in found}
                self._taken.update(self.files[kind])
        except OSError as error:
            raise StorageError(f"cannot use {self.directory}: {error}") from error

    def free_name(self, stem: str, suffix: str) -> str:
        """A name no file has; nobody else gets it."""
        stamp = local_now().strftime("%Y-%m-%d_%H-%M-%S")
        name, number = f"{stem}_{stamp}{suffix}", 0
        while name in self._taken:
            number += 1
            name = f"{stem}_{stamp}_{number}{suffix}"
        self._taken.add(name)
        return name

    def path(self, kind: str, name: str) -> Path:
        """Where a file of this name goes."""
        return self.directory / kind / name

    async def film(self, camera: SimCamera, path: Path) -> Filming:
        """Begin a recording.

        Raises:
            RecordingError, TimeoutError, StorageError: GStreamer cannot.
        """
        if not self._live:
            await self._clips.prepare()
            return _Copied(self._clips, path)
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
        try:
            await recorder.start(timeout=_FIRST_FRAME)
        except BaseException:
            await finish(recorder.aclose())
            raise
        return _Filmed(recorder)

    async def picture(self, name: str) -> StoredFile:
        """Take a picture; one of the same name is replaced.

        Raises:
            RecordingError, TimeoutError, StorageError: GStreamer cannot.
        """
        await self._clips.picture_to(self.path(SNAPSHOTS, name))
        self._taken.add(name)
        return await self.add(SNAPSHOTS, name)

    async def add(self, kind: str, name: str) -> StoredFile:
        """Take note of a file that is there now.

        Raises:
            StorageError: It is not.
        """
        path = self.path(kind, name)
        try:
            status = await asyncio.to_thread(path.stat)
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error}") from error
        file = StoredFile(
            name, path, status.st_size, status.st_mtime, began=WALL_CLOCK.elapsed(), made_here=True
        )
        self.files[kind].pop(name, None)
        self.files[kind][name] = file
        return file

    async def delete(self, kind: str, name: str) -> StoredFile | None:
        """Delete a file; None if there is none of this name."""
        file = self.files[kind].pop(name, None)
        if file is not None:
            await asyncio.to_thread(file.path.unlink, missing_ok=True)
        return file

    async def part(self, file: StoredFile, start: int, size: int) -> bytes:
        """At most ``size`` bytes of a file."""

        def read() -> bytes:
            with file.path.open("rb") as stream:
                stream.seek(start)
                return stream.read(size)

        return await asyncio.to_thread(read)

    async def space(self) -> tuple[int, int, int]:
        """Bytes the disk has, uses, and has free."""
        return await asyncio.to_thread(shutil.disk_usage, self.directory)


def _scan(directory: Path) -> list[StoredFile]:
    directory.mkdir(parents=True, exist_ok=True)
    found = []
    wall, elapsed = WALL_CLOCK.pair()
    for path in directory.iterdir():
        status = path.stat()
        began = elapsed - max(0.0, wall - status.st_mtime)
        found.append(
            StoredFile(path.name, path, status.st_size, status.st_mtime, began=began, made_here=False)
        )
    return sorted(found, key=lambda file: (file.modified, file.name))
