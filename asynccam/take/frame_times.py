"""Times of the frames of a camera's recording, by this computer's clock. See docs/aligning.md.

Read from the files themselves, by the presentation times of their frames.
"""

import asyncio
import math
import os
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Final

from asynccam.errors import AsynccamError
from asynccam.model.info import DRIFT_LIMIT, FrameTime, FrameTimeReader
from asynccam.model.intervals import WANDER
from asynccam.model.manifest import CameraRecord, FileRecord, FileState, GapRecord
from asynccam.model.safe_files import Root, confined, open_file

ASSUMED_DRIFT: Final = DRIFT_LIMIT
"""Seconds per second that a device's frames are assumed to drift, if its clock was measured too seldom."""
ARRIVALS: Final = 64
"""First frames whose arrival is compared with when they were made: so few that drift does not matter."""
ROUNDING: Final = 1e-6
"""Seconds lost where Unix seconds are added up."""
_CONTINUES_WITHIN: Final = 4
"""Frame intervals within which a file's times continue those of the file before it."""
_PICTURE_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})


@dataclass(frozen=True, slots=True)
class TimedFrame:
    """One frame with its time by this computer's clock.

    Attributes:
        file: Its file, relative to the take's directory, with forward slashes.
        index: Index in the file, in the order of presentation.
        time: Presentation time in the file, in seconds.
        at: When it was, Unix seconds of this computer's clock.
        bound: The frame was at ``at`` plus or minus this, in seconds.
        duration: Seconds until the next frame of the file; None for a last one without a duration.
    """

    file: str
    index: int
    time: float
    at: float
    bound: float
    duration: float | None


class TimedFile:
    """Frames of one file with their times by this computer's clock; eight bytes a frame.

    Attributes:
        path: Relative to the take's directory, with forward slashes.
        begins_at: When its first frame was, Unix seconds.
        bound: Uncertainty of ``begins_at``, in seconds.
        first_time: Presentation time of the first frame in the file.
        length: Seconds from the first frame to the end of the last one, by the clock of the file.
        interval: Seconds between two frames, at the end or on average, whichever is longer.
        longest: Longest step from one frame to the next, seconds.
        resolution: Step of the times in the file, seconds; not part of ``bound``.
    """

    def __init__(self, path: str, frames: "_Frames") -> None:
        self.path = path
        self.begins_at = self.bound = 0.0
        self._frames = frames
        self._speed = 1.0
        self._drift = 0.0
        times = frames.times
        self.first_time: float = times[0]
        span: float = times[-1] - times[0]
        last = times[-1] - times[-2] if len(times) > 1 else 0.0
        mean = span / (len(times) - 1) if len(times) > 1 else 0.0
        self.interval: float = max(frames.last_duration or last, mean)
        self.longest: float = max(
            (after - before for before, after in pairwise(times)), default=self.interval
        )
        self.resolution = frames.resolution
        self.length: float = span + (frames.last_duration if frames.last_duration is not None else last)

    def __len__(self) -> int:
        """Return the number of frames that have a time."""
        return len(self._frames.times)

    def __iter__(self) -> Iterator[TimedFrame]:
        return (self.frame(index) for index in range(len(self)))

    @property
    def ends_at(self) -> float:
        """End of the last frame, Unix seconds."""
        return self.begins_at + self.length / self._speed

    @property
    def last_time(self) -> float:
        """Presentation time of the last frame in the file."""
        time: float = self._frames.times[-1]
        return time

    def place(self, begins_at: float, bound: float, rate: float, drift: float) -> None:
        """Set when the first frame was, and by how much the file's clock runs faster, each with its bound."""
        self.begins_at, self.bound = begins_at, bound
        self._speed, self._drift = 1.0 + rate, drift

    def frame(self, index: int) -> TimedFrame:
        """Return a frame by its index; `IndexError` if it does not exist."""
        frames = self._frames
        if not 0 <= index < len(frames.times):
            raise IndexError(f"{self.path} has no frame {index}")
        time: float = frames.times[index]
        elapsed = (time - self.first_time) / self._speed
        bound = self.bound + elapsed * self._drift + (frames.resolution if index else 0.0)
        if frames.errors is not None:
            bound += frames.errors[index]
        is_last = index + 1 == len(frames.times)
        duration = frames.last_duration if is_last else frames.times[index + 1] - time
        return TimedFrame(self.path, index, time, self.begins_at + elapsed, bound, duration)

    def nearest(self, instant: float) -> TimedFrame:
        """Return the frame nearest to a time in Unix seconds; of two equally near, the earlier."""
        times = self._frames.times
        wanted = self.first_time + (instant - self.begins_at) * self._speed
        after = min(bisect_left(times, wanted), len(times) - 1)
        if after and wanted - times[after - 1] <= times[after] - wanted + ROUNDING:
            after -= 1
        return self.frame(after)


class FrameTimes:
    """All frames of one camera's recording, with their times by this computer's clock.

    Attributes:
        camera: The camera's id.
        files: Its videos in order, as far as their times are known.
        problem: Why some frames have no time, in words; ``""`` if all have one.
        drift: Seconds per second by which bounds grow with the distance from the first frame.
    """

    def __init__(
        self, camera: str, files: Sequence[TimedFile], problem: str = "", *, drift: float = 0.0
    ) -> None:
        self.camera = camera
        self.files = tuple(files)
        self.problem = problem
        self.drift = drift

    @classmethod
    async def of_camera(
        cls,
        record: CameraRecord,
        directory: Path,
        read: FrameTimeReader,
        *,
        drift: float | None = None,
        arrivals: FrameTimeReader | None = None,
    ) -> "FrameTimes":
        """Read the times of a camera's frames from its files, in threads, eight bytes a frame.

        The first frame is taken from the record, with its bound. The bound grows with the distance from the
        first frame: by the drift that was measured between the device's clock and this computer's, or by
        `ASSUMED_DRIFT`. Files that a recorder wrote on this computer have its own clock, or that of their
        sender (``frame_drift`` in the record).

        Args:
            record: Record of the camera, with the time of its first frame.
            directory: The take's directory.
            read: Reads one file, as `asynccam.recording.frame_times` does.
            drift: Seconds per second by which the clock of ``read`` may drift, instead of the above.
            arrivals: Reads when the same frames arrived, if ``read`` returns when a device made them: the
                recording's own times. The shortest delay of the first `ARRIVALS` frames then counts, so that
                a first frame that waited at the device does not make all others late.

        Returns:
            The frames up to a file that cannot be read, which is reported in ``problem``.
        """
        if record.first_frame_at is None:
            return cls(record.id, (), "the time of its first frame is unknown")
        try:
            root = await asyncio.to_thread(Root.of, directory)
        except OSError as error:
            return cls(record.id, (), f"{directory} cannot be read: {error.strerror or error}")
        with confined(root):
            return await cls._of_files(record, directory, read, drift, arrivals)

    @classmethod
    async def _of_files(
        cls,
        record: CameraRecord,
        directory: Path,
        read: FrameTimeReader,
        drift: float | None,
        arrivals: FrameTimeReader | None,
    ) -> "FrameTimes":
        """Do the work of `of_camera`, confined to the take's directory."""
        videos = videos_of(record)
        files: list[TimedFile] = []
        problem = ""
        for video in videos:
            frames, problem = await _read(video, directory / (video.path or ""), read)
            if frames is not None:
                files.append(TimedFile(video.path or "", frames))
            if problem:
                break
        if not videos:
            problem = "no video of it was downloaded"
        delay = 0.0
        if arrivals is not None and files:
            delay, problem = await _first_frame_delay(files[0], directory, arrivals, problem)
        rate, bound = (0.0, drift) if drift is not None else _clock_rate(record, videos)
        _place(files, record, rate, bound, delay)
        return cls(record.id, files, problem, drift=bound)

    def __iter__(self) -> Iterator[TimedFrame]:
        return (frame for file in self.files for frame in file)

    def __len__(self) -> int:
        """Return the number of frames that have a time."""
        return sum(len(file) for file in self.files)

    def at(self, instant: float) -> TimedFrame | None:
        """Return the frame nearest to a time in Unix seconds, or None where nothing was recorded.

        The frame's own time is in its ``at``: in an outage within a file it may be far from ``instant``.
        """
        for index, file in enumerate(self.files):
            if file.begins_at - ROUNDING <= instant < file.ends_at:
                frame = file.nearest(instant)
                following = self.files[index + 1] if index + 1 < len(self.files) else None
                if following is not None and following.begins_at - instant < instant - frame.at:
                    return following.frame(0)
                return frame
        return None


def is_picture(file: FileRecord) -> bool:
    """Return whether a file is a still picture, by its name."""
    return PurePosixPath(file.path or file.name).suffix.lower() in _PICTURE_SUFFIXES


def videos_of(record: CameraRecord) -> list[FileRecord]:
    """Return the videos of a camera that were downloaded, in order."""
    arrived = [file for file in record.files if file.state is FileState.ARRIVED and file.path]
    return [file for file in arrived if not is_picture(file)]


def restarts(lengths: Sequence[float], first: float, gaps: Sequence[GapRecord]) -> dict[int, float]:
    """Return when each file was begun after a gap, by index, from the seconds of all files.

    ``first`` is the begin of the first one, Unix seconds. A gap is after the file whose end is nearest to it.
    """
    found: dict[int, float] = {}
    current, begins = 0, first
    for gap in gaps:
        if not gap.restarted or gap.ended_at is None:
            continue
        ends: list[float] = []
        moment = begins
        for length in lengths[current:]:
            moment += length
            ends.append(moment)
        if len(ends) < 2:
            break
        nearest = min(range(len(ends) - 1), key=lambda index: abs(ends[index] - gap.began_at.unix))
        current += nearest + 1
        begins = found[current] = gap.ended_at.unix
    return found


@dataclass(slots=True)
class _Frames:
    """Frames of one file that have a time."""

    times: "array[float]"  # presentation times, which never fall
    # Uncertainty of each time, if the file has frames without a time; else None.
    errors: "array[float] | None"
    last_duration: float | None  # seconds that the last frame is shown, or None
    resolution: float  # step of the times


async def _read(video: FileRecord, path: Path, read: FrameTimeReader) -> tuple[_Frames | None, str]:
    """Return the frames of a file, and why some or all are missing."""
    try:
        size = await asyncio.to_thread(_size, path)
    except OSError as error:
        return None, f"{video.name} cannot be read: {error.strerror or error}"
    if video.size is not None and video.size != size:
        return None, f"{video.name} is not the file of this take: it has {size} bytes instead of {video.size}"
    collected = _FrameCollector()
    try:
        async with aclosing(read(path)) as frames:
            async for frame in frames:
                collected.add(frame)
    except AsynccamError as error:
        return None, str(error)
    return collected.finish(video.name)


def _size(path: Path) -> int:
    with os.fdopen(open_file(path), "rb") as file:
        return os.fstat(file.fileno()).st_size


class _FrameCollector:
    """Collects the frames of a file in order, until its times go back."""

    def __init__(self) -> None:
        self._times: array[float] = array("d")
        self._untimed: list[tuple[int, int]] = []
        self._resolution = 0.0
        self._last: FrameTime | None = None
        self._back: int | None = None

    def add(self, frame: FrameTime) -> None:
        if self._back is not None:
            return
        if frame.time is None:
            if not self._untimed or sum(self._untimed[-1]) != frame.index:
                self._untimed.append((frame.index, 0))
            begin, count = self._untimed[-1]
            self._untimed[-1] = begin, count + 1
            self._times.append(math.nan)
        elif self._last is not None and self._last.time is not None and frame.time < self._last.time:
            self._back = frame.index
            return
        else:
            self._times.append(frame.time)
            self._last = frame
        self._resolution = max(self._resolution, frame.resolution)

    def finish(self, name: str) -> tuple[_Frames | None, str]:
        times, last = self._times, self._last
        if last is None:
            return None, f"{name} has no time for any of its frames"
        if math.isnan(times[0]):
            return None, f"{name} has no time for its first frame"
        problem = ""
        if self._back is not None:
            problem = f"the times in {name} go back at frame {self._back}"
        elif last.index + 1 < len(times):
            problem = f"{name} has no time for its last {len(times) - last.index - 1} frames"
        del times[last.index + 1 :]
        return _Frames(times, self._interpolate(), last.duration, self._resolution), problem

    def _interpolate(self) -> "array[float] | None":
        """Place frames without a time evenly between those with one: only their order is known."""
        times = self._times
        runs = [(begin, count) for begin, count in self._untimed if begin + count < len(times)]
        if not runs:
            return None
        errors = array("d", bytes(8 * len(times)))
        for begin, count in runs:
            low, high = times[begin - 1], times[begin + count]
            for index in range(count):
                part = (index + 1) / (count + 1)
                times[begin + index] = low + (high - low) * part
                errors[begin + index] = (high - low) * max(part, 1 - part)
        return errors


def _clock_rate(record: CameraRecord, videos: Sequence[FileRecord]) -> tuple[float, float]:
    """Return by how much the files' clock runs faster than this computer's, in s/s, and the bound."""
    if any(video.source == "local" for video in videos):
        return 0.0, record.frame_drift
    clock = record.clock
    if clock is not None and clock.drift is not None and clock.drift_bound is not None and clock.consistent:
        # The rate at any time may differ from the mean rate that was measured.
        bound = clock.drift_bound + WANDER
        if bound < ASSUMED_DRIFT:
            return clock.drift, bound
    return 0.0, ASSUMED_DRIFT


async def _first_frame_delay(
    file: TimedFile, directory: Path, arrivals: FrameTimeReader, problem: str
) -> tuple[float, str]:
    """Return by how many seconds the first frame arrived later than another one would, and the problem."""
    began: float | None = None
    delay = 0.0
    try:
        async with aclosing(arrivals(directory / file.path)) as frames:
            async for frame in frames:
                if frame.index >= min(ARRIVALS, len(file)):
                    break
                if frame.time is None:
                    continue
                if frame.index == 0:
                    began = frame.time
                if began is not None:
                    made = file.frame(frame.index).time - file.first_time
                    delay = max(delay, made - (frame.time - began))
    except AsynccamError as error:
        return 0.0, problem or str(error)
    return delay, problem


def _place(files: Sequence[TimedFile], record: CameraRecord, rate: float, drift: float, delay: float) -> None:
    """Place files one after the other, but after a restart where its gap ended.

    A file that continues the times of the file before is placed by them. Otherwise it follows within a frame,
    which widens the bound.
    """
    if record.first_frame_at is None or not files:
        return
    first, bound = record.first_frame_at.unix, record.first_frame_bound or 0.0
    speed = 1.0 + rate
    restarted = restarts([file.length / speed for file in files], first, record.gaps)
    begins, total_bound = first - delay, bound
    before: TimedFile | None = None
    for index, file in enumerate(files):
        if index in restarted:
            begins, total_bound = restarted[index], bound
        elif before is not None:
            step = file.first_time - before.last_time
            elapsed = before.length
            if 0 < step <= _CONTINUES_WITHIN * before.interval:
                elapsed = file.first_time - before.first_time
            else:
                total_bound += before.interval
            begins += elapsed / speed
            total_bound += elapsed / speed * drift
        file.place(begins, total_bound, rate, drift)
        before = file
