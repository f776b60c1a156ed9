"""Alignment: the position in each camera's files of the time that all cameras recorded. See docs/aligning.md.

Computed from a manifest, and from the times of the frames if the files can be read.
"""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import Field, ValidationError

from asynccam.errors import StorageError, UsageError
from asynccam.model.info import DRIFT_LIMIT, FrameTimeReader
from asynccam.model.manifest import (
    CameraRecord,
    FileRecord,
    FileState,
    FirstFrameSource,
    GapRecord,
    Manifest,
    Moment,
    Record,
    empty_list,
    optional,
    record_bytes,
)
from asynccam.model.safe_files import Root, confined, read_file
from asynccam.outside import clean_json
from asynccam.runtime.disk import atomic_write, on_disk, storage_errors
from asynccam.take.frame_times import ROUNDING, FrameTimes, is_picture, restarts, videos_of
from asynccam.take.outcome import infer_first_frames, recorded_here
from asynccam.take.store import ALIGNMENT_NAME

ALIGNMENT_VERSION: Final = 1
_MAX_BYTES: Final = 64 << 20


class CutPoint(Record):
    """A moment in a camera's recording."""

    file: str = Field(description="Path relative to the take's directory, with forward slashes.")
    offset: float = Field(description="Seconds from the file's first frame.")
    frame: int | None = optional(
        "The frame nearest to it, from 0; the number of frames for the very end of a file."
        " Null if the times of the frames were not read."
    )
    frame_time: float | None = optional(
        "That frame's presentation time in the file, in seconds; null like frame."
    )
    frame_offset: float | None = optional(
        "Seconds from the file's first frame to that frame; null like frame."
    )
    frame_bound: float | None = optional(
        "That frame was at its own time plus or minus this, seconds; null like frame."
    )


class AlignedFile(Record):
    """One video file with its time by this computer's clock."""

    path: str = Field(description="Relative to the take's directory, with forward slashes.")
    begins_at: Moment = Field(description="Time of its first frame, by this computer's clock.")
    bound: float = Field(description="The first frame lies within begins_at plus or minus this, seconds.")
    duration: float = Field(description="Length in seconds.")
    fps: float | None = optional("Mean frames a second, or null.")
    offset: float | None = optional(
        "Seconds from its first frame to the window; below 0 for a file that begins inside it."
    )
    frame: int | None = optional(
        "The frame nearest to the window's beginning; null if that is not in this file, or the"
        " times of the frames were not read."
    )
    frames: int | None = optional("Number of frames that have a time; null if their times were not read.")
    first_time: float | None = optional("Presentation time of the first frame in the file; null like frames.")

    @property
    def ends(self) -> float:
        """End of the file, Unix seconds."""
        return self.begins_at.unix + self.duration


class AlignedCamera(Record):
    """One camera's files with their times by this computer's clock."""

    id: str = Field(description="As in the manifest.")
    name: str = Field(description="As in the manifest.")
    source: FirstFrameSource | None = optional("What its first frame's time rests on, as in the manifest.")
    evidence: list[str] = empty_list("Sources of all evidence on its first frame, as in the manifest.")
    contradictions: list[str] = empty_list("As in the manifest.")
    bound: float | None = optional("Uncertainty of its first frame's time, in seconds.")
    drift: float = Field(
        default=0.0, description="Seconds per second by which its files may run fast or slow; part of bounds."
    )
    drift_measured: bool = Field(
        default=False,
        description="Whether drift was measured or follows from where it records; else assumed.",
    )
    frame_interval: float = Field(
        default=0.0,
        description="Longest step between two frames, or mean without their times, seconds; part of bounds.",
    )
    cut_bound: float | None = optional(
        "Of any frame in the window: bound, drift until there and one frame interval, seconds."
    )
    files: list[AlignedFile] = empty_list("Its videos, in order.")
    pictures: list[str] = empty_list("Its still pictures, as paths.")
    gaps: list[GapRecord] = empty_list("As in the manifest.")
    begin: CutPoint | None = optional("Where the window begins in its recording.")
    end: CutPoint | None = optional("Where the window ends in its recording.")
    problem: str = Field(default="", description="Why it is not aligned, if it is not.")
    frames_problem: str = Field(
        default="the times of its frames were not read",
        description="Why frames are not numbered in some of its files; empty if they are in all.",
    )


class Window(Record):
    """The time that every aligned camera recorded."""

    begins_at: Moment = Field(description="The latest first frame of any camera.")
    seconds: float = Field(description="Until the earliest end of any camera.")
    bound: float = Field(description="How far any two cameras' pictures of a moment may be apart, seconds.")


class Alignment(Record):
    """Positions at which each camera's files have to be cut to begin at the same moment."""

    format: Literal["asynccam-alignment"] = "asynccam-alignment"
    version: int = ALIGNMENT_VERSION
    take: str = Field(description="Name of the take.")
    window: Window | None = optional("Null if no time is common to all.")
    cameras: list[AlignedCamera] = empty_list("In the manifest's order.")

    def at(
        self, seconds: float, times: Mapping[str, FrameTimes] | None = None
    ) -> Mapping[str, CutPoint | None]:
        """Return the position of a moment in each camera's recording; None for one without a picture then.

        Args:
            seconds: Seconds from the beginning of the window.
            times: Result of `read_frame_times`; without it the positions have no frames.

        Raises:
            UsageError: There is no common window.
        """
        if self.window is None:
            raise UsageError(f"take {self.take} has no time that all its cameras recorded")
        moment = self.window.begins_at.unix + seconds
        return {
            camera.id: _point(camera.files, moment, (times or {}).get(camera.id)) for camera in self.cameras
        }

    def to_bytes(self) -> bytes:
        """Return the alignment as it is written to ``align.json``."""
        return record_bytes(self)

    async def save(self, directory: Path) -> Path:
        """Write ``align.json`` into a take's directory, in one step.

        Raises:
            StorageError: It cannot be written.
        """
        await on_disk(_save, directory, self.to_bytes())
        return directory / ALIGNMENT_NAME

    @classmethod
    async def load(cls, directory: str | Path) -> Self:
        """Read ``align.json``, or the one in a take's directory.

        Raises:
            StorageError: It cannot be read, or is not an alignment.
        """
        where = Path(directory)
        try:
            data = await asyncio.to_thread(_read, where)
            return await asyncio.to_thread(lambda: cls.model_validate_json(clean_json(data)))
        except OSError as error:
            raise StorageError(f"cannot read the alignment in {where}: {error.strerror or error}") from error
        except ValidationError as error:
            raise StorageError(f"{where} is not an alignment: {error.errors()[0]['msg']}") from None
        except ValueError as error:
            raise StorageError(f"{where} is not an alignment: {error}") from None


async def read_frame_times(
    manifest: Manifest, directory: Path, read: FrameTimeReader
) -> dict[str, FrameTimes]:
    """Read the times of the frames of every camera in a take, one file after another.

    Args:
        manifest: Manifest of the take; not changed.
        directory: The take's directory.
        read: Reads one file: `asynccam.recording.frame_times`.

    Returns:
        Frame times by camera id, without cameras that have pictures only. A file that cannot be read is
        reported in `FrameTimes.problem`.
    """
    copy = manifest.model_copy(deep=True)
    infer_first_frames(copy)
    return {
        record.id: await FrameTimes.of_camera(record, directory, read)
        for record in copy.cameras
        if record.kind != "still"
    }


def align_take(manifest: Manifest, times: Mapping[str, FrameTimes] | None = None) -> Alignment:
    """Compute where each camera's files have to be cut; the manifest is not changed.

    A camera whose times are unknown, or without a downloaded video, has a ``problem`` and does not narrow the
    window.

    Args:
        manifest: Manifest of the take.
        times: Result of `read_frame_times`. Without it cut points are in seconds only: the mean frame rate
            does not say which frame that is, since phones drop frames and many streams have no constant rate.
    """
    copy = manifest.model_copy(deep=True)
    infer_first_frames(copy)
    known = dict(times or {})
    cameras = [_camera(record, known.get(record.id)) for record in copy.cameras]
    alignment = Alignment(take=manifest.take, cameras=cameras)
    placed = [camera for camera in cameras if camera.files]
    if not placed:
        return alignment
    begins = max(camera.files[0].begins_at.unix for camera in placed)
    ends = min(camera.files[-1].ends for camera in placed)
    if ends <= begins:
        for camera in placed:
            camera.problem = "it has no time in common with all others"
        return alignment
    for camera in placed:
        frames = known.get(camera.id)
        camera.begin = _point(camera.files, begins, frames)
        camera.end = _point(camera.files, ends, frames, last=True)
        for file in camera.files:
            file.offset = begins - file.begins_at.unix
            if camera.begin is not None and camera.begin.file == file.path:
                file.frame = camera.begin.frame
        camera.cut_bound = _cut_bound(camera, ends)
    worst = sorted(camera.cut_bound or 0.0 for camera in placed)
    alignment.window = Window(begins_at=Moment.of(begins), seconds=ends - begins, bound=sum(worst[-2:]))
    return alignment


def _cut_bound(camera: AlignedCamera, until: float) -> float:
    """Return how far any frame of the window may be from its stated time.

    Drift grows with the time a file has run; the frame nearest to a moment is up to an interval away from it.
    """
    return (
        max(
            file.bound + camera.drift * max(0.0, min(until, file.ends) - file.begins_at.unix)
            for file in camera.files
        )
        + camera.frame_interval
    )


def _drift(record: CameraRecord) -> tuple[float, bool]:
    """Return by how much a camera's files may run fast or slow, and whether that was measured."""
    if recorded_here(record):
        # A recorder here stamps frames by this computer's clock, or keeps the stamps of a sender.
        return record.frame_drift, record.frame_drift == 0.0
    clock = record.clock
    if clock is None or clock.drift is None or clock.drift_bound is None or not clock.consistent:
        return DRIFT_LIMIT, False
    measured = abs(clock.drift) + clock.drift_bound
    return (measured, True) if measured < DRIFT_LIMIT else (DRIFT_LIMIT, False)


def _camera(record: CameraRecord, times: FrameTimes | None) -> AlignedCamera:
    videos = videos_of(record)
    drift, measured = _drift(record)
    camera = AlignedCamera(
        id=record.id,
        name=record.name,
        source=record.first_frame_source or ("seen" if record.first_frame_at else None),
        evidence=list(dict.fromkeys(piece.source for piece in record.evidence)),
        contradictions=record.contradictions,
        bound=record.first_frame_bound,
        drift=drift,
        drift_measured=measured,
        pictures=[
            file.path
            for file in record.files
            if file.state is FileState.ARRIVED and file.path and is_picture(file)
        ],
        gaps=record.gaps,
    )
    if record.kind == "still":
        camera.problem = "" if camera.pictures else "its picture was not downloaded"
    elif not videos:
        camera.problem = "no video of it was downloaded"
    elif record.first_frame_at is None:
        camera.problem = "the time of its first frame is unknown"
    elif times is not None and len(times.files) == len(videos):
        camera.files = _timed(times)
        camera.frames_problem = times.problem
        # The measured rate is part of the times already.
        camera.drift = times.drift
        camera.frame_interval = max((file.longest for file in times.files), default=0.0)
    else:
        # Without times of all files, by the lengths in the manifest.
        if times is not None:
            camera.frames_problem = times.problem
        first, bound = record.first_frame_at.unix, record.first_frame_bound or 0.0
        camera.files = _placed(videos, first, bound, drift, record.gaps)
        camera.frame_interval = max((1 / file.fps for file in camera.files if file.fps), default=0.0)
        if len(camera.files) < len(videos):
            camera.problem = f"the length of {videos[len(camera.files)].name} is unknown"
    return camera


def _placed(
    videos: Sequence[FileRecord], first: float, bound: float, drift: float, gaps: Sequence[GapRecord]
) -> list[AlignedFile]:
    """Place the files one after the other, but after a restart where its gap ended.

    A file follows the one before it within a frame, which widens the bound, as does the drift of that one.
    Files after one of unknown length are left out.
    """
    lengths: list[float] = []
    for video in videos:
        if video.verdict is None or not video.verdict.duration or not video.verdict.frames:
            break
        lengths.append(video.verdict.duration)
    restarted = restarts(lengths, first, gaps)
    placed: list[AlignedFile] = []
    begins, total_bound = first, bound
    for index, (video, length) in enumerate(zip(videos, lengths, strict=False)):
        frames = video.verdict.frames if video.verdict else None
        fps = frames / length if frames else None
        if index in restarted:
            begins, total_bound = restarted[index], bound
        placed.append(
            AlignedFile(
                path=video.path or "",
                begins_at=Moment.of(begins),
                bound=total_bound,
                duration=length,
                fps=fps,
            )
        )
        begins += length
        total_bound += (1 / fps if fps else 0.0) + drift * length
    return placed


def _timed(times: FrameTimes) -> list[AlignedFile]:
    """Return the files, placed by the times of their frames."""
    return [
        AlignedFile(
            path=file.path,
            begins_at=Moment.of(file.begins_at),
            bound=file.bound + file.resolution,
            duration=file.ends_at - file.begins_at,
            fps=len(file) / file.length if file.length else None,
            frames=len(file),
            first_time=file.first_time,
        )
        for file in times.files
    ]


def _point(
    files: Sequence[AlignedFile], moment: float, times: FrameTimes | None, *, last: bool = False
) -> CutPoint | None:
    """Return the position of a moment, None in a gap; for ``last`` also the very end of a file."""
    for file in files:
        offset = moment - file.begins_at.unix
        if offset >= -ROUNDING and (offset < file.duration or (last and offset <= file.duration + ROUNDING)):
            offset = max(0.0, offset)
            return _cut_point(file, offset, times, last=last)
    return None


def _cut_point(file: AlignedFile, offset: float, times: FrameTimes | None, *, last: bool) -> CutPoint:
    """Return a position in a file with its frame, if the times of its frames are known."""
    point = CutPoint(file=file.path, offset=offset)
    timed = None if times is None else next((each for each in times.files if each.path == file.path), None)
    if timed is None:
        return point
    frame = timed.nearest(timed.begins_at + offset)
    point.frame, point.frame_time, point.frame_bound = frame.index, frame.time, frame.bound
    point.frame_offset = frame.at - timed.begins_at
    if last and file.duration - offset < abs(offset - point.frame_offset):
        # Nearer to the end of the last frame than to any frame's begin: the whole file is before it.
        point.frame, point.frame_offset = len(timed), file.duration
        point.frame_time = timed.first_time + timed.length
    return point


def _save(directory: Path, data: bytes) -> None:
    with storage_errors("write", directory / ALIGNMENT_NAME):
        root = Root.of(directory)
    atomic_write(root.given / ALIGNMENT_NAME, data, root=root)


def _read(where: Path) -> bytes:
    file = where / ALIGNMENT_NAME if where.is_dir() else where
    with confined(Root.of(file.parent)):
        return read_file(file, _MAX_BYTES)
