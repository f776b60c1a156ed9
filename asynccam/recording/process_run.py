"""One run of a recorder: a process, what it said so far, and how its files grow."""

import asyncio
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from asynccam.errors import AsynccamError, RecordingError, StorageError, TimeoutError
from asynccam.recording.bus_messages import (
    AsyncDone,
    BusMessage,
    EndOfStream,
    FrameCount,
    FramesDropped,
    InterruptSeen,
    LatencyChanged,
    LaunchReader,
    PipelineError,
    SegmentClosed,
    SegmentOpened,
    StateChanged,
    parse_line,
)
from asynccam.recording.filtering import FilterPipes, FilterProcess, RtpFilterProcess
from asynccam.recording.gstreamer import Installation
from asynccam.recording.hold import SOURCE
from asynccam.recording.outputs import FileSet
from asynccam.recording.pipeline import Plan
from asynccam.recording.process import LaunchProcess, StopDeadlines
from asynccam.recording.rtp.stream import RtpSender, RtpStream
from asynccam.recording.sources import FROM_PORT, PORT, TIMESTAMPER
from asynccam.recording.verify import FileVerdict, verify_files
from asynccam.wall_clock import WALL_CLOCK, unix_now

SegmentCallback = Callable[[Path | None, float], None]
"""Called with a finished segment's path, if it is known, and its length in seconds."""

FIRST_FRAME_BOUND: Final = 0.01
"""Seconds by which a first frame's time may be late on a computer that is not overloaded."""
_LONG_INTERVAL: Final = 0.1
"""Seconds between frames, where that is not known."""
_PROMPT: Final = 0.1
"""Seconds in which a frame that waits before an opened gate reaches the muxer."""
_HELD_SECONDS: Final = 1.0
"""A frame that is held back so long before the muxer counts as the first."""
_AWAKE_EVERY: Final = 0.1
"""Seconds between two signs that this program runs, while the first frame is waited for."""
_ASLEEP: Final = 0.3
"""Seconds without a sign after which what is read now may have come at any time since."""
_WAKING: Final = 2.0
"""Seconds after a sleep in which frames may come that were sent before or during it."""
_CONFIRM_SECONDS: Final = 0.02
"""A sink's first data may be the end of a stream without frames; that follows within this time."""


_FINISH_SECONDS: Final = 5.0
"""For a process whose stream has ended to close its files."""


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """What is on the disk.

    Attributes:
        sizes: The files of all runs, oldest first, and their bytes.
        free: Bytes left, or None if nothing is written there.
    """

    sizes: Mapping[Path, int]
    free: int | None


def survey(sets: Sequence[FileSet]) -> DiskUsage:
    """Look at the disk, and remove the oldest files beyond what is to be kept; for use in a thread.

    Args:
        sets: The files of every run so far, the present one last.

    Raises:
        StorageError: It cannot be read or written.
    """
    present = sets[-1]
    sizes = {path: size for files in sets for path, size in files.sizes().items()}
    if present.directory is None:
        return DiskUsage(sizes, None)
    try:
        for path in list(sizes)[: -present.keep] if present.keep else ():
            path.unlink(missing_ok=True)
            del sizes[path]
        disk = os.statvfs(present.directory)
    except OSError as error:
        raise StorageError(f"cannot look after {present.directory}: {error}") from error
    return DiskUsage(sizes, disk.f_bavail * disk.f_frsize)


class Run:
    """A running pipeline.

    Attributes:
        files: What it writes.
        first_frame: Its time in Unix seconds, once the muxer has it.
        first_frame_bound: It was there at most this many seconds earlier.
        ready: Done once a start that is held back can be let go.
        frames: Frames counted so far.
        fps: Frames a second between the last two counts, or None.
        segments: Files finished so far.
        grown_at: When frames or bytes were last seen to grow, monotonic seconds.
        began_at: When the first frame came, monotonic seconds.
        seen_at: When the latest frame came of which is known when, monotonic seconds.
        bytes: On disk when last looked at, earlier runs included.
        interrupted: Whether the process heeded an interrupt.
        listening: Done once the process takes the packets of an RTP stream.
        rtp: What is known of the RTP stream that it receives.
        unseen: Seconds before the first frame in which nobody counted frames. A source that was silent then
            had sent it so much earlier.
        ended_at: When the process was told to end, or was found to have ended, monotonic seconds, or None.
    """

    def __init__(
        self, plan: Plan, on_segment: SegmentCallback, on_other: Callable[[RtpSender], None] | None = None
    ) -> None:
        self.files = plan.files
        self.frames = 0
        self.fps: float | None = None
        self.segments = 0
        self.bytes = 0
        self.interrupted = False
        self.grown_at = time.monotonic()
        self.began_at = self.seen_at = self.grown_at
        self.first_frame: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.first_frame_bound = FIRST_FRAME_BOUND
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._plan = plan
        self._released_at = 0.0
        self._came: tuple[float, int] | None = None  # before the gate: the first count and its time
        self._coming: tuple[float, int] = (0.0, 0)  # the last count and its time
        self.unseen = 0.0
        self.ended_at: float | None = None
        self._on_segment = on_segment
        self._reader = LaunchReader()
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._dropped: dict[str, int] = {}
        self._counted_at: float | None = None
        self._opened_at = 0.0
        self._span: tuple[float, float] | None = (
            None  # running times, from the first file to the last finished
        )
        self._closed: Path | None = None
        self._process: LaunchProcess | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._awake_at = self._awake_monotonic = 0.0
        self._slept = (-math.inf, 0.0)  # when this computer woke, and how long it had slept
        self._blocked = (-math.inf, 0.0)  # when this program ran again, and how long it had not
        self._alarm: asyncio.TimerHandle | None = None
        self._filter: FilterProcess | None = None
        self._rtp_filter: RtpFilterProcess | None = None
        self.listening: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.rtp = RtpStream(on_other)

    async def start(self, tools: Installation, environment: Mapping[str, str]) -> LaunchProcess:
        """Start the process; the caller must `stop` the run, also when this raises.

        Raises:
            RecordingError: It cannot be started.
        """
        if self._plan.rtp is not None:
            self._rtp_filter = RtpFilterProcess(self.rtp.feed)
            packets = await self._rtp_filter.start(self._plan.rtp)
            wanted, place = f"fd={FROM_PORT}", f"fd={packets}"
            arguments = [place if word == wanted else word for word in self._plan.graph.arguments()]
            process = await self._launch(tools, environment, arguments, (*self._plan.pass_fds, packets))
            self._rtp_filter.started()
            return process
        if not self._plan.filtered:
            return await self._launch(tools, environment, self._plan.graph.arguments(), self._plan.pass_fds)
        with FilterPipes() as pipes:
            self._filter = FilterProcess()
            await self._filter.start(pipes.filter_source, pipes.filter_target)
            arguments = pipes.arguments(self._plan.graph.arguments())
            return await self._launch(tools, environment, arguments, (*self._plan.pass_fds, *pipes.theirs))

    async def _launch(
        self,
        tools: Installation,
        environment: Mapping[str, str],
        arguments: Sequence[str],
        pass_fds: Sequence[int],
    ) -> LaunchProcess:
        plan = self._plan
        self._stay_awake()
        self._process = await LaunchProcess.start(
            # -e: an interrupt ends the stream, so that the muxer finishes its file.
            [*tools.guard, tools.launch, "-e", "-m", *arguments],
            self._take,
            feed=plan.feed() if plan.feed is not None else None,
            held=plan.held,
            environment=environment,
            pass_fds=pass_fds,
            outlives=bool(tools.guard),
        )
        return self._process

    @property
    def held(self) -> bool:
        """Whether its first frame is held back until `release`."""
        return self._plan.held

    @property
    def backlog(self) -> float:
        """Seconds of frames that `release` lets through, older ones are thrown away."""
        return self._plan.backlog

    @property
    def latency(self) -> float:
        """Seconds that its source holds every frame back."""
        return self._plan.latency

    def release(self) -> None:
        """Let the first frame through."""
        assert self._process is not None
        self._released_at = WALL_CLOCK.elapsed()
        self._process.release()

    async def stop(self, deadlines: StopDeadlines) -> None:
        """End the process, if there is one.

        Raises:
            RecordingError: It outlived even SIGKILL.
        """
        self.ended_at = time.monotonic()
        for timer in (self._timer, self._alarm):
            if timer is not None:
                timer.cancel()
        try:
            if self._process is not None:
                await self._process.stop(deadlines)
        finally:
            for one in (self._filter, self._rtp_filter):
                if one is not None:
                    await one.stop()

    @property
    def dropped(self) -> int:
        """Frames that elements reported as lost."""
        return sum(self._dropped.values())

    @property
    def spoiled(self) -> int:
        """Pictures that were left out because they are spoiled."""
        return 0 if self._filter is None else self._filter.spoiled

    @property
    def end_of_stream(self) -> bool:
        """Whether the stream came to its end."""
        return self._ended.done()

    @property
    def failure(self) -> str:
        """The first reason an element gave for giving up, or ``""``."""
        lines = self._process.errors.splitlines() if self._process is not None else []
        told = (message for message in map(parse_line, lines) if isinstance(message, PipelineError))
        return next((f"{one.element}: {one.text}" if one.element else one.text for one in told), "")

    def no_frame(self, name: str, timeout: float) -> AsynccamError:
        """The error of a run whose process has ended without a frame.

        Args:
            name: What the recorder is called.
            timeout: Seconds it was waited for.
        """
        process = self._process
        assert process is not None
        # What fails for want of data when it is told to end is not the cause.
        if self.failure and not self.interrupted:
            return RecordingError(f"{name}: {self.failure}", output=process.output)
        if self.end_of_stream and not self.interrupted:
            return RecordingError(f"{name}: the stream ended without a frame", output=process.output)
        if process.ended_by_itself:
            status = f"gst-launch-1.0 ended with status {process.returncode} before the first frame"
            return RecordingError(f"{name}: {status}", output=process.output)
        others = f"; {self.rtp.trouble}" if self.rtp.trouble else ""
        return TimeoutError(f"{name}: no frame came within {timeout:g} s{others}")

    async def verdicts(self, *, decode: bool = False) -> list[FileVerdict]:
        """Return the verdict on every file, oldest first.

        Args:
            decode: Whether every picture is decoded.

        Raises:
            StorageError: The directory cannot be read.
        """
        found = await verify_files(self.files, decode=decode)
        if not self._plan.caution:
            return found
        return [
            replace(one, detail="; ".join(filter(None, (one.detail, self._plan.caution)))) for one in found
        ]

    async def has_frame(self) -> bool:
        """Whether the first frame came; only to be asked once `first_frame` is done.

        A stream that has ended by then may still have been one of a few frames: its files tell. Where there
        are none, the first data is taken for a frame.
        """
        assert self._process is not None
        await asyncio.wait({self._ended}, timeout=_CONFIRM_SECONDS)
        if not self._ended.done() or self.frames > 0 or self.files.directory is None:
            return True
        if self.interrupted:
            return False
        await asyncio.wait({self._process.exited}, timeout=_FINISH_SECONDS)
        return any(one.frames != 0 for one in await verify_files(self.files))

    def grew_to(self, total: int) -> None:
        """Take the bytes of a survey."""
        if total > self.bytes:
            self._grew()
        self.bytes = total

    @property
    def rate(self) -> float | None:
        """Bytes a second since the first frame, or None if it is not known."""
        if not self.first_frame.done() or not self.bytes:
            return None
        return self.bytes / max(time.monotonic() - self.began_at, 1.0)

    def length(self, verdicts: Sequence[FileVerdict]) -> float | None:
        """Seconds of video in all files, those that were rotated away included; None if it is not known.

        Args:
            verdicts: On the files that are there, oldest first.
        """
        total = 0.0
        left = verdicts
        if self._span is not None:
            total = self._span[1] - self._span[0]
            # Files are finished one after the other; only a process that was killed leaves one that is not.
            left = [one for one in verdicts[-1:] if self._closed not in (None, one.path)]
        elif not verdicts:
            return None
        lengths = [one.duration for one in left]
        return None if None in lengths else total + sum(length or 0.0 for length in lengths)

    def _grew(self) -> None:
        self.grown_at = time.monotonic()

    def _say_ready(self) -> None:
        if not self.ready.done():
            self.ready.set_result(None)

    def _take(self, data: bytes) -> None:
        now = WALL_CLOCK.elapsed()
        for message in self._reader.feed(data):
            self._heed(message, now)

    @property
    def grown_wall(self) -> float:
        """When frames or bytes were last seen to grow, Unix seconds."""
        return unix_now() - (time.monotonic() - self.grown_at)

    def _first_came(self, now: float) -> float:
        """When the first frame came that is recorded; ``now`` the muxer has it. Times are elapsed ones."""
        if self._came is None:
            return now
        (first_at, first), (last_at, last) = self._came, self._coming
        oldest = self._released_at - self.backlog
        if first_at >= oldest:
            return first_at
        # Of the frames that were kept the first one came within one interval, unless none came for a while.
        interval = (last_at - first_at) / (last - first) if last > first else _LONG_INTERVAL
        kept = now - self._released_at < interval + _PROMPT
        came = min(oldest + interval, now) if kept else now
        if kept:
            self.unseen = max(0.0, self._released_at - last_at)
        # One that came later found the gate open, and was at the muxer as promptly.
        self.first_frame_bound += came - oldest if kept else _PROMPT
        return came

    def _stay_awake(self) -> None:
        now, monotonic = WALL_CLOCK.elapsed(), time.monotonic()
        if self._alarm is not None:
            silent = now - self._awake_at
            # Monotonic time stands still while the computer sleeps.
            slept = silent - (monotonic - self._awake_monotonic)
            if slept > _ASLEEP:
                self._slept = now, slept
            if silent > _ASLEEP:
                self._blocked = now, silent
        self._awake_at, self._awake_monotonic = now, monotonic
        self._alarm = asyncio.get_running_loop().call_later(_AWAKE_EVERY, self._stay_awake)

    def _unheard(self, now: float) -> float:
        """Return the seconds by which a message read ``now`` may be older, as this program did not run."""
        silent, (ran_at, blocked) = now - self._awake_at, self._blocked
        if now - ran_at < _PROMPT:  # timers may have been served before what had come meanwhile
            silent = now - ran_at + blocked
        unread = 0.0
        if silent > _ASLEEP:
            unread = silent + self.backlog
            if self.held:  # nothing passes the gate before it is opened
                unread = min(unread, now - self._released_at + self.backlog)
        woke_at, slept = self._slept
        # What came just before and after a sleep may have waited in the system's buffers meanwhile.
        return max(unread, slept if now - woke_at < _WAKING else 0.0)

    def _begin(self, now: float) -> None:
        """Take the first frame, which the muxer has ``now``, elapsed seconds."""
        if self.first_frame.done() or self._ended.done():
            return
        first = self._first_came(now)
        self.first_frame_bound += self._unheard(now)
        if self._alarm is not None:
            self._alarm.cancel()
        self.first_frame.set_result(unix_now() - (WALL_CLOCK.elapsed() - first))
        self._grew()
        self.began_at, self.seen_at = self.grown_at - (now - first), self.grown_at

    def _begin_held(self) -> None:
        self._begin(WALL_CLOCK.elapsed())

    def _heed(self, message: BusMessage, now: float) -> None:
        match message:
            case AsyncDone():
                self._begin(now)
            case LatencyChanged(element=element) if element == TIMESTAMPER and self._came is None:
                # With B frames that may be many frames before the muxer has the first one.
                self._came = self._coming = (now, 1)
                self._timer = asyncio.get_running_loop().call_later(_HELD_SECONDS, self._begin_held)
            case StateChanged(element=element, new="playing") if (
                element == PORT and not self.listening.done()
            ):
                self.listening.set_result(None)
                if self._rtp_filter is not None:
                    self._rtp_filter.play()
            case StateChanged(element="pipeline0", new="paused") if not self.backlog:
                self._say_ready()
            case FrameCount(element=element, frames=frames) if element == SOURCE:
                self._coming = (now, frames)
                self._came = self._came or self._coming
                self._say_ready()
            case EndOfStream() | InterruptSeen():
                # After an interrupt a sink may be woken by the end of the stream alone.
                self.interrupted |= isinstance(message, InterruptSeen)
                if not self._ended.done():
                    self._ended.set_result(None)
            case FrameCount(frames=frames, dropped=dropped):
                if self._counted_at is not None and now > self._counted_at:
                    self.fps = (frames - self.frames) / (now - self._counted_at)
                self._counted_at = now
                if frames > self.frames:
                    self._grew()
                    self.seen_at = self.grown_at
                self.frames = frames
                if dropped is not None:
                    self._dropped[message.element] = dropped
            case FramesDropped(dropped=dropped):
                self._dropped[message.element] = dropped
            case SegmentOpened(running_time=running_time):
                self._opened_at = running_time
            case SegmentClosed(location=location, running_time=running_time):
                self.segments += 1
                path = Path(location) if location is not None else None
                began = self._opened_at if self._span is None else self._span[0]
                self._span, self._closed = (began, running_time), path
                self._on_segment(path, running_time - self._opened_at)
            case _:
                pass
