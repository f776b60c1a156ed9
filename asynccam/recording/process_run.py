"""One process of a recorder: its output so far, and how its files grow."""

import asyncio
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from asynccam.errors import AsynccamError, RecordingError, StorageError, TimeoutError
from asynccam.recording import bus_messages as bus
from asynccam.recording.filter_processes import JpegFilterProcess, RtpFilterProcess
from asynccam.recording.gstreamer import Installation
from asynccam.recording.outputs import FileSet
from asynccam.recording.pipeline import SOURCE_COUNTER, Plan
from asynccam.recording.process import LaunchProcess, StopDeadlines
from asynccam.recording.rtp.stream import RtpSender, RtpStream
from asynccam.recording.sources import RTP_READER, TIMESTAMPER
from asynccam.recording.verify import FileVerdict, verify_files
from asynccam.wall_clock import WALL_CLOCK, unix_now

SegmentCallback = Callable[[Path | None, float], None]
"""Called with a finished segment's path, if it is known, and its length in seconds."""

FIRST_FRAME_BOUND: Final = 0.01
"""Seconds by which a first frame's time may be late on a computer that is not overloaded."""
_ASSUMED_INTERVAL: Final = 0.1  # seconds between frames, where that is not known
_GATE_DELAY: Final = 0.1
"""Upper bound in seconds from opening the gate to the first waiting frame at the muxer."""
_LONGEST_DELAY: Final = 1.0  # A frame that is held back so many seconds before the muxer counts as the first
_TICK_INTERVAL: Final = 0.1  # seconds between two ticks of this program while it waits for the first frame
_LATE_TICK: Final = 0.3
"""Seconds without a tick after which output that is read now may have been written at any time since."""
_WAKE_SECONDS: Final = 2.0
"""Seconds after a sleep of the computer in which frames may arrive that were sent before or during it."""
_CONFIRM_SECONDS: Final = 0.02
"""A sink's first data may be the end of a stream without frames; that follows within this time."""


_FINISH_SECONDS: Final = 5.0  # for a process whose stream has ended to close its files


def check_disk(file_sets: Sequence[FileSet]) -> tuple[int, int | None]:
    """Measure the files of every run, the present run last, and remove the oldest beyond ``keep``; blocking.

    Returns the bytes of those that are left, and the bytes free on the disk, None without files. Raises
    StorageError if the disk cannot be read or written.
    """
    present = file_sets[-1]
    sizes = {path: size for files in file_sets for path, size in files.sizes().items()}
    if present.directory is None:
        return sum(sizes.values()), None
    try:
        for path in list(sizes)[: -present.keep] if present.keep else ():
            path.unlink(missing_ok=True)
            del sizes[path]
        disk = os.statvfs(present.directory)
    except OSError as error:
        raise StorageError(f"cannot check {present.directory}: {error}") from error
    return sum(sizes.values()), disk.f_bavail * disk.f_frsize


class ProcessRun:
    """A running pipeline. Times are monotonic seconds unless stated otherwise."""

    def __init__(
        self, plan: Plan, on_segment: SegmentCallback, on_other: Callable[[RtpSender], None] | None = None
    ) -> None:
        loop = asyncio.get_running_loop()
        self.frames = 0
        self.fps: float | None = None  # frames a second between the last two counts, or None
        self.segments = 0  # files finished so far
        self.bytes = 0  # on disk at the last check, earlier runs included
        self.interrupted = False  # whether the process received an interrupt
        self.grown_at = time.monotonic()  # when frames or bytes were last seen to grow
        self.began_at = self.grown_at  # when the first frame arrived
        self.seen_at = self.grown_at  # when the latest frame arrived of which the time is known
        self.first_frame: asyncio.Future[float] = loop.create_future()  # its time in Unix seconds
        self.first_frame_bound = FIRST_FRAME_BOUND  # it was there at most this many seconds earlier
        self.ready: asyncio.Future[None] = loop.create_future()  # done once an armed start can be released
        self.plan = plan
        self._released_at = 0.0
        # Time and number of the first count before the gate, and of the last one:
        self._first_count: tuple[float, int] | None = None
        self._last_count = (0.0, 0)
        self.unseen = (
            0.0  # seconds before the first frame without a count; a silent source had sent it earlier
        )
        self.ended_at: float | None = None  # when the process was stopped or found to have ended, or None
        self._on_segment = on_segment
        self._reader = bus.LaunchReader()
        self._eos_seen: asyncio.Future[None] = loop.create_future()
        self._dropped: dict[str, int] = {}
        self._counted_at: float | None = None
        self._segment_opened_at = 0.0
        # Running times from the begin of the first file to the end of the last finished one.
        self._finished_span: tuple[float, float] | None = None
        self._last_finished: Path | None = None
        self._process: LaunchProcess | None = None
        self._delay_timer: asyncio.TimerHandle | None = None
        self._ticked_at = self._ticked_monotonic = 0.0
        self._slept = (-math.inf, 0.0)  # when this computer woke, and how long it had slept
        self._blocked = (-math.inf, 0.0)  # when this program ran again, and how long it had not
        self._tick_timer: asyncio.TimerHandle | None = None
        self._filter: JpegFilterProcess | RtpFilterProcess | None = None
        self.listening: asyncio.Future[None] = loop.create_future()  # done once it takes RTP packets
        self.rtp = RtpStream(on_other)

    async def start(self, tools: Installation, environment: Mapping[str, str]) -> LaunchProcess:
        """Start the process; the caller must `stop` the run, also when this raises.

        Raises:
            RecordingError: It cannot be started.
        """
        plan = self.plan
        descriptors: Mapping[str, int] = {}
        if plan.stream.rtp is not None:
            self._filter = RtpFilterProcess(plan.stream.rtp, self.rtp.feed)
        elif plan.stream.filtered:
            self._filter = JpegFilterProcess()
        if self._filter is not None:
            descriptors = await self._filter.start()
        places = {f"fd={place}": f"fd={fd}" for place, fd in descriptors.items()}
        arguments = [places.get(word, word) for word in plan.graph.arguments()]
        self._tick()
        self._process = await LaunchProcess.start(
            # -e: an interrupt ends the stream, so that the muxer finishes its file.
            [*tools.guard, tools.launch, "-e", "-m", *arguments],
            self._read_output,
            feed=plan.feed() if plan.feed is not None else None,
            armed=plan.armed,
            environment=environment,
            pass_fds=(*plan.pass_fds, *descriptors.values()),
            guarded=bool(tools.guard),
        )
        if self._filter is not None:
            self._filter.close_inherited()
        return self._process

    def release(self) -> None:
        """Let the first frame through."""
        assert self._process is not None
        self._released_at = WALL_CLOCK.elapsed()
        self._process.release()

    async def stop(self, deadlines: StopDeadlines) -> None:
        """End the process, if there is one; raise RecordingError if it outlives even SIGKILL."""
        self.ended_at = time.monotonic()
        for timer in (self._delay_timer, self._tick_timer):
            if timer is not None:
                timer.cancel()
        try:
            if self._process is not None:
                await self._process.stop(deadlines)
        finally:
            if self._filter is not None:
                await self._filter.stop()

    @property
    def dropped(self) -> int:
        """Frames that elements reported as lost."""
        return sum(self._dropped.values())

    @property
    def spoiled(self) -> int:
        """Pictures that were left out because they are broken."""
        return 0 if self._filter is None else self._filter.spoiled

    @property
    def end_of_stream(self) -> bool:
        """Return whether the stream reached its end."""
        return self._eos_seen.done()

    @property
    def failure(self) -> str:
        """The first error of an element, or ``""``."""
        error = None if self._process is None else bus.first_error(self._process.errors)
        if error is None:
            return ""
        return f"{error.element}: {error.text}" if error.element else error.text

    def no_frame_error(self, name: str, timeout: float) -> AsynccamError:
        """Return the error of a run that was waited for ``timeout`` seconds and has no frame."""
        process = self._process
        assert process is not None
        # An error for want of data after an interrupt is not the cause.
        if self.failure and not self.interrupted:
            return RecordingError(f"{name}: {self.failure}", output=process.output)
        if self.end_of_stream and not self.interrupted:
            return RecordingError(f"{name}: the stream ended without a frame", output=process.output)
        if process.ended_by_itself:
            status = f"gst-launch-1.0 ended with status {process.returncode} before the first frame"
            return RecordingError(f"{name}: {status}", output=process.output)
        return TimeoutError(self.with_trouble(f"{name}: no frame arrived within {timeout:g} s"))

    def with_trouble(self, reason: str) -> str:
        """Return a reason for missing frames, with the trouble that its RTP stream has."""
        return f"{reason}; {self.rtp.trouble}" if self.rtp.trouble else reason

    async def verdicts(self, *, decode: bool = False) -> list[FileVerdict]:
        """Return the verdict on every file, oldest first; raise StorageError if the disk fails."""
        found = await verify_files(self.plan.files, decode=decode)
        caution = self.plan.stream.caution
        if not caution:
            return found
        return [
            replace(verdict, detail="; ".join(filter(None, (verdict.detail, caution)))) for verdict in found
        ]

    async def has_frame(self) -> bool:
        """Return whether the first frame arrived; valid once `first_frame` is done.

        A stream that has ended by then may still have had a few frames: its files show that. Without files,
        the first data is taken for a frame.
        """
        assert self._process is not None
        await asyncio.wait({self._eos_seen}, timeout=_CONFIRM_SECONDS)
        if not self._eos_seen.done() or self.frames > 0 or self.plan.files.directory is None:
            return True
        if self.interrupted:
            return False
        await asyncio.wait({self._process.exited}, timeout=_FINISH_SECONDS)
        return any(verdict.frames != 0 for verdict in await verify_files(self.plan.files))

    def note_size(self, total: int) -> None:
        """Note the bytes of a check of the disk."""
        if total > self.bytes:
            self._note_growth()
        self.bytes = total

    @property
    def rate(self) -> float | None:
        """Bytes a second since the first frame, or None if it is not known."""
        if not self.first_frame.done() or not self.bytes:
            return None
        return self.bytes / max(time.monotonic() - self.began_at, 1.0)

    def length(self, verdicts: Sequence[FileVerdict]) -> float | None:
        """Return the seconds of video in all files, rotated ones included; None if unknown."""
        total = 0.0
        left = verdicts
        if self._finished_span is not None:
            total = self._finished_span[1] - self._finished_span[0]
            # Files are finished one after the other; only a process that was killed leaves one that is not.
            left = [verdict for verdict in verdicts[-1:] if self._last_finished not in (None, verdict.path)]
        elif not verdicts:
            return None
        lengths = [verdict.duration for verdict in left]
        return None if None in lengths else total + sum(length or 0.0 for length in lengths)

    def _note_growth(self) -> None:
        self.grown_at = time.monotonic()

    def _set_ready(self) -> None:
        if not self.ready.done():
            self.ready.set_result(None)

    def _read_output(self, data: bytes) -> None:
        now = WALL_CLOCK.elapsed()
        for message in self._reader.feed(data):
            self._handle(message, now)

    @property
    def grown_at_wall(self) -> float:
        """When frames or bytes were last seen to grow, Unix seconds."""
        return unix_now() - (time.monotonic() - self.grown_at)

    def _first_arrival(self, now: float) -> float:
        """Return when the first recorded frame arrived that the muxer has ``now``, in elapsed seconds."""
        if self._first_count is None:
            return now
        (first_at, first), (last_at, last) = self._first_count, self._last_count
        oldest = self._released_at - self.plan.backlog
        if first_at >= oldest:
            return first_at
        # Of the frames that were kept the first arrived within one interval, unless none arrived for a while.
        interval = (last_at - first_at) / (last - first) if last > first else _ASSUMED_INTERVAL
        kept = now - self._released_at < interval + _GATE_DELAY
        arrived_at = min(oldest + interval, now) if kept else now
        if kept:
            self.unseen = max(0.0, self._released_at - last_at)
        # A later one found the gate open, and was at the muxer as promptly.
        self.first_frame_bound += arrived_at - oldest if kept else _GATE_DELAY
        return arrived_at

    def _tick(self) -> None:
        now, monotonic = WALL_CLOCK.elapsed(), time.monotonic()
        if self._tick_timer is not None:
            silent = now - self._ticked_at
            # Monotonic time stands still while the computer sleeps.
            slept = silent - (monotonic - self._ticked_monotonic)
            if slept > _LATE_TICK:
                self._slept = now, slept
            if silent > _LATE_TICK:
                self._blocked = now, silent
        self._ticked_at, self._ticked_monotonic = now, monotonic
        self._tick_timer = asyncio.get_running_loop().call_later(_TICK_INTERVAL, self._tick)

    def _seconds_unread(self, now: float) -> float:
        """Return the seconds by which a message read ``now`` may be older, as this program did not run."""
        silent, (ran_at, blocked) = now - self._ticked_at, self._blocked
        if now - ran_at < _GATE_DELAY:  # timers may have been served before output that had arrived meanwhile
            silent = now - ran_at + blocked
        unread = 0.0
        if silent > _LATE_TICK:
            unread = silent + self.plan.backlog
            if self.plan.armed:  # nothing passes the gate before it is opened
                unread = min(unread, now - self._released_at + self.plan.backlog)
        woke_at, slept = self._slept
        # Output from just before and after a sleep may have waited in the system's buffers.
        return max(unread, slept if now - woke_at < _WAKE_SECONDS else 0.0)

    def _note_first_frame(self, now: float) -> None:
        """Note the first frame, which the muxer has ``now``, elapsed seconds."""
        if self.first_frame.done() or self._eos_seen.done():
            return
        first = self._first_arrival(now)
        self.first_frame_bound += self._seconds_unread(now)
        if self._tick_timer is not None:
            self._tick_timer.cancel()
        self.first_frame.set_result(unix_now() - (WALL_CLOCK.elapsed() - first))
        self._note_growth()
        self.began_at, self.seen_at = self.grown_at - (now - first), self.grown_at

    def _handle(self, message: bus.BusMessage, now: float) -> None:
        match message:
            case bus.AsyncDone():
                self._note_first_frame(now)
            case bus.LatencyChanged(element=element) if element == TIMESTAMPER and self._first_count is None:
                # With B frames that may be many frames before the muxer has the first one.
                self._first_count = self._last_count = (now, 1)
                self._delay_timer = asyncio.get_running_loop().call_later(
                    _LONGEST_DELAY, lambda: self._note_first_frame(WALL_CLOCK.elapsed())
                )
            case bus.StateChanged(element=element, new="playing") if (
                element == RTP_READER and not self.listening.done()
            ):
                self.listening.set_result(None)
                if isinstance(self._filter, RtpFilterProcess):
                    self._filter.play()
            case bus.StateChanged(element="pipeline0", new="paused") if not self.plan.backlog:
                self._set_ready()
            case bus.FrameCount(element=element, frames=frames) if element == SOURCE_COUNTER:
                self._last_count = (now, frames)
                self._first_count = self._first_count or self._last_count
                self._set_ready()
            case bus.EndOfStream() | bus.InterruptSeen():
                # After an interrupt a sink may be woken by the end of the stream alone.
                self.interrupted |= isinstance(message, bus.InterruptSeen)
                if not self._eos_seen.done():
                    self._eos_seen.set_result(None)
            case bus.FrameCount(frames=frames):
                if self._counted_at is not None and now > self._counted_at:
                    self.fps = (frames - self.frames) / (now - self._counted_at)
                self._counted_at = now
                if frames > self.frames:
                    self._note_growth()
                    self.seen_at = self.grown_at
                self.frames = frames
            case bus.FramesDropped(dropped=dropped):
                self._dropped[message.element] = dropped
            case bus.SegmentOpened(running_time=running_time):
                self._segment_opened_at = running_time
            case bus.SegmentClosed(location=location, running_time=running_time):
                self.segments += 1
                path = Path(location) if location is not None else None
                began = self._segment_opened_at if self._finished_span is None else self._finished_span[0]
                self._finished_span, self._last_finished = (began, running_time), path
                self._on_segment(path, running_time - self._segment_opened_at)
            case _:
                pass
