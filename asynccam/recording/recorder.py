"""Recorder: one recording from its first frame to the verdict on its last file."""

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from asynccam.errors import AsynccamError, RecordingError, StateError, StorageError, UsageError
from asynccam.model.coverage import LENGTH_DRIFT, EarlyEnd, LateBegin
from asynccam.recording.coverage import CoverageResult, find_gaps, measure_coverage
from asynccam.recording.events import (
    EndReason,
    Gap,
    RecorderDiskLow,
    RecorderEnded,
    RecorderOtherStream,
    RecorderProgress,
    RecorderResumed,
    RecorderSegmentClosed,
    RecorderStalled,
    RecorderStarted,
    RecorderState,
)
from asynccam.recording.gstreamer import Installation, find_installation
from asynccam.recording.pipeline import Pipeline, Plan
from asynccam.recording.process import DEFAULT_DEADLINES, NOTHING_TO_FINISH, LaunchProcess, StopDeadlines
from asynccam.recording.process_run import FIRST_FRAME_BOUND, ProcessRun, check_disk
from asynccam.recording.rtp.stream import RtpSender, RtpStream
from asynccam.recording.verify import FileVerdict, verify_files
from asynccam.runtime.event_hub import EventHub
from asynccam.runtime.retry import Backoff, Retrier
from asynccam.runtime.tasks import Ready, TaskScope, finish
from asynccam.runtime.timing import deadline
from asynccam.wall_clock import unix_now

_LOG = logging.getLogger(__name__)

_SETUP_SECONDS: Final = 60.0
_DISK_SECONDS: Final = 30.0
_FRAME_DELAY: Final = 0.1
"""Seconds that a frame takes from the camera to the source's buffer: encoding and sending. Assumed."""
_NO_VARIABLES: Final[Mapping[str, str]] = MappingProxyType({})
_BACKOFF: Final = Backoff(initial=0.5, maximum=10.0, immediate=True)

TRANSITIONS: Final[dict[RecorderState, frozenset[RecorderState]]] = {
    RecorderState.IDLE: frozenset({RecorderState.STARTING}),
    RecorderState.STARTING: frozenset({RecorderState.ARMED, RecorderState.RECORDING, RecorderState.STOPPING}),
    RecorderState.ARMED: frozenset({RecorderState.RECORDING, RecorderState.STOPPING}),
    RecorderState.RECORDING: frozenset(
        {RecorderState.STALLED, RecorderState.RESTARTING, RecorderState.STOPPING}
    ),
    RecorderState.STALLED: frozenset(
        {RecorderState.RECORDING, RecorderState.RESTARTING, RecorderState.STOPPING}
    ),
    RecorderState.RESTARTING: frozenset({RecorderState.RECORDING, RecorderState.STOPPING}),
    RecorderState.STOPPING: frozenset({RecorderState.ENDED, RecorderState.FAILED}),
    RecorderState.ENDED: frozenset(),
    RecorderState.FAILED: frozenset(),
}
"""Every change of state that a recorder may make."""
_RUNNING: Final = {RecorderState.RECORDING, RecorderState.STALLED, RecorderState.RESTARTING}


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits at which a recording ends by itself; None for no limit.

    Attributes:
        seconds: From the first frame.
        size: Bytes on disk, checked once a second.
        segments: Finished files of a split recording. Frames that arrive before the process has been
            stopped are in one more, short file.
    """

    seconds: float | None = None
    size: int | None = None
    segments: int | None = None

    def __post_init__(self) -> None:
        if any(limit is not None and not limit > 0 for limit in (self.seconds, self.size, self.segments)):
            raise UsageError(f"a limit must be > 0 or None: {self}")


@dataclass(frozen=True, slots=True)
class Watch:
    """Checks that a recorder makes while it runs.

    Attributes:
        interval: Seconds between two checks, and between two progress events.
        stall: Seconds without growth that make a stall; at least 2, since frames are counted once
            a second.
        restart: Whether a stall or a stream that ends leads to a new process with a new file,
            repeatedly until frames arrive or the recorder is stopped.
        low_space: Bytes free below which `RecorderDiskLow` is reported.
        backoff: Waits between restarts; they begin anew after a process whose frames went on for longer than
            the longest of them.
    """

    interval: float = 1.0
    stall: float = 5.0
    restart: bool = False
    low_space: int = 1 << 30
    backoff: Backoff = _BACKOFF

    def __post_init__(self) -> None:
        if self.interval <= 0 or self.stall < 2:
            raise UsageError(f"Watch.interval must be > 0 and Watch.stall >= 2: {self}")


_NO_LIMITS: Final = Limits()
_DEFAULT_WATCH: Final = Watch()


class Recorder:
    """Record one pipeline once with ``gst-launch-1.0``, and read the files that it leaves.

    A context manager: leaving it stops the recording. Must live in the thread that runs the loop;
    the kernel ends the recording when that thread dies.

    Args:
        pipeline: Source and output.
        name: Name in events and errors.
        limits: Limits at which the recording ends by itself.
        watch: Checks while it runs.
        deadlines: Time that its process has to stop.
        decode: Whether verdicts decode every picture, which takes as long as that takes.
        environment: Variables for the process, ``GST_DEBUG`` for example.
        events: Hub for its events; a hub of its own by default.

    Attributes:
        events: Hub of its events.
        state: Present state.
        first_frame_at: When the first frame reached the muxer, Unix seconds, or None.
        first_frame_bound: The first frame was there at most this many seconds earlier.
        verdicts: One for each file; filled when the recording is over.
        error: What ended the recording, or None.
        reason: Why it ended, or None before.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        name: str = "recorder",
        limits: Limits = _NO_LIMITS,
        watch: Watch = _DEFAULT_WATCH,
        deadlines: StopDeadlines = DEFAULT_DEADLINES,
        decode: bool = False,
        environment: Mapping[str, str] = _NO_VARIABLES,
        events: EventHub | None = None,
    ) -> None:
        self.name = name
        self.events = events if events is not None else EventHub(name)
        self.state = RecorderState.IDLE
        self.first_frame_at: float | None = None
        self.first_frame_bound = FIRST_FRAME_BOUND
        self.verdicts: tuple[FileVerdict, ...] = ()
        self.error: AsynccamError | None = None
        self.reason: EndReason | None = None
        self._pipeline = pipeline
        self._limits = limits
        self._watch = watch
        self._deadlines = deadlines
        self._decode = decode
        self._environment = environment
        self._own_events = events is None
        self._scope = TaskScope(f"recorder {name}")
        self._listening = asyncio.Event()
        self._runs: list[ProcessRun] = []
        self._first_run: ProcessRun | None = None  # the first one that had a frame
        self._last_run: ProcessRun | None = None  # the last one that had a frame
        self._discarded: list[FileVerdict] = []
        self._coverage: CoverageResult | None = None
        self._gaps: tuple[Gap, ...] = ()
        self._gap_began: float | None = None
        self._is_disk_low = False
        # Monotonic seconds:
        self._released_at: float | None = None  # when an armed start was released
        self._began_at: float | None = None  # when the first frame was there
        self._ends_at: float | None = None  # when the limit in seconds is reached
        self._asked_to_end_at: float | None = None  # until when it was to record
        # Futures belong to the loop, so `_begin` and `arm` create them.
        self._over: asyncio.Future[None] | None = None
        self._stop_requested: asyncio.Future[None]
        self._limit_reached: asyncio.Future[None]
        self._armed_start: _ArmedStart | None = None

    async def arm(self, *, timeout: float = 10.0) -> None:
        """Start the process ahead of time and discard its frames; `start` records the next one.

        Returns when `start` can take effect at once: when frames arrive, or where they are made here, when
        they could. The frames of a source that build on each other cannot be discarded so. Then this only
        checks that everything needed is there, and `start` starts the process. When it raises, nothing is
        left behind.

        Args:
            timeout: Seconds that may take.

        Raises:
            StateError: It was armed or started before.
            RecordingError, TimeoutError, TargetExistsError, StorageError: As for `start`.
        """
        self._begin()

        def record(armed: Ready[None]) -> Coroutine[Any, Any, None]:
            self._armed_start = _ArmedStart(armed)
            return self._record(Ready(self._armed_start.first_frame), timeout)

        await self._scope.start(record, name="record", timeout=timeout + _SETUP_SECONDS)

    async def start(self, *, timeout: float = 10.0) -> float:
        """Start, and return when the first frame has reached the muxer: its time, ``first_frame_at``.

        When it raises, the process has ended and its files are removed. After `arm` the first frame is the
        first one that arrives after this call.

        Args:
            timeout: Seconds the first frame may take from the start of the process, or after `arm`.

        Raises:
            StateError: It was started before.
            RecordingError: GStreamer or an element is missing, or the pipeline failed; the last lines
                of its output are in ``output``.
            TimeoutError: No frame arrived.
            TargetExistsError, StorageError: The output exists or cannot be written.
        """
        armed = self._armed_start
        if armed is not None and not armed.released.done():
            return await self._release(armed, timeout)
        self._begin()
        return await self._scope.start(
            lambda ready: self._record(ready, timeout), name="record", timeout=timeout + _SETUP_SECONDS
        )

    async def listening(self) -> None:
        """Wait until its process takes the packets of an RTP stream, or the recording is over."""
        await self._listening.wait()

    async def stop(self) -> tuple[FileVerdict, ...]:
        """Finish the recording and return the verdicts on its files, oldest first; idempotent.

        Where the source holds frames back (`SrtJpegSource`, `RtpSource`, `RtspSource`), the recording goes on
        for its latency and a tenth of a second, until the frames that show this moment have arrived.
        Cancelled, it still waits for the process to end and the files to be read. A failure of the recording
        is in ``error``.

        Raises:
            StateError: It was not started.
        """
        if self._over is None:
            raise StateError(f"{self.name} was not started")
        self._note_asked_to_end()
        if not self._stop_requested.done():
            self._stop_requested.set_result(None)
        await finish(self._over)
        return self.verdicts

    async def wait(self) -> tuple[FileVerdict, ...]:
        """Wait until the recording ends by itself; return the same as `stop`.

        Raises:
            StateError: It was not started.
        """
        if self._over is None:
            raise StateError(f"{self.name} was not started")
        await asyncio.shield(self._over)
        return self.verdicts

    def reset_timer(self, seconds: float) -> bool:
        """End the recording so many seconds from now, whatever its limit was; checked once a second.

        Returns False, and does nothing, before the first frame and when the recording is over.

        Raises:
            UsageError: ``seconds`` is not above 0.
        """
        if not seconds > 0:
            raise UsageError(f"seconds must be > 0, not {seconds}")
        if self.state not in _RUNNING:
            return False
        self._ends_at = time.monotonic() + seconds
        return True

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """Times without frames so far."""
        return self._gaps

    @property
    def spoiled(self) -> int:
        """Pictures of Motion JPEG left out so far because they arrived broken."""
        return sum(run.spoiled for run in self._runs)

    @property
    def rtp(self) -> RtpStream | None:
        """The RTP stream whose frames arrive, or arrived last; None before it is started."""
        return (self._last_run or self._runs[-1]).rtp if self._runs else None

    @property
    def ended_early(self) -> EarlyEnd | None:
        """The early end of its video, or None; None too before the recording is over.

        A file may be whole and yet end early, when its sender died. See docs/recording.md.
        """
        return None if self._coverage is None else self._coverage.early(self._asked_to_end_at)

    @property
    def begins_late(self) -> LateBegin | None:
        """The late begin of its video after an armed start was released, or None.

        None too before the recording is over, and for a start that was not armed.
        """
        if self._coverage is None or self._released_at is None:
            return None
        if self._began_at is None or self.first_frame_at is None:
            return None
        return self._coverage.late(self.first_frame_at, self._began_at, self._released_at)

    async def aclose(self) -> None:
        """Stop if it runs, and end every subscription; idempotent."""
        if self._over is not None:
            await self.stop()
        await self._scope.aclose()
        if self._own_events:
            await self.events.aclose()

    async def __aenter__(self) -> "Recorder":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # -- start ----------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self.state is not RecorderState.IDLE:
            raise StateError(f"{self.name} was started before; a recorder records once")
        self._move(RecorderState.STARTING)
        loop = asyncio.get_running_loop()
        self._over = loop.create_future()
        self._stop_requested = loop.create_future()
        self._limit_reached = loop.create_future()

    async def _release(self, armed: "_ArmedStart", timeout: float) -> float:
        """Let the first frame of an armed recording through; return its time."""
        assert self._over is not None
        self._released_at = time.monotonic()
        armed.released.set_result(timeout)
        try:
            signs: set[asyncio.Future[Any]] = {armed.first_frame, self._over}
            await asyncio.wait(signs, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            await self.stop()
            raise
        if not armed.first_frame.done():
            raise self.error or StateError(f"{self.name} was closed before the first frame")
        return armed.first_frame.result()

    # -- the recording's own task ---------------------------------------------------------------

    async def _record(self, ready: Ready[float], timeout: float) -> None:
        """Run until the end, then read the files."""
        assert self._over is not None
        try:
            try:
                self.reason = await self._run_repeatedly(ready, timeout)
                if self.first_frame_at is None:
                    raise RecordingError(f"{self.name}: stopped before the first frame")
            except AsynccamError as error:
                self.error, self.reason = error, EndReason.FAILED
                if self.state is RecorderState.STARTING:
                    raise  # to the caller of `arm` or `start`; once armed, `start` reads ``error``
            finally:
                if self.reason is None:  # cancelled
                    self._note_asked_to_end()
                    self.reason = EndReason.STOPPED
                self._move(RecorderState.STOPPING)
                self._close_gap(unix_now(), resumed=False)
                await finish(self._read_files())
        finally:
            assert self.reason is not None
            self._listening.set()
            self._move(RecorderState.FAILED if self.error is not None else RecorderState.ENDED)
            self._over.set_result(None)
            self.events.emit(
                RecorderEnded(
                    recorder=self.name,
                    reason=self.reason,
                    verdicts=self.verdicts,
                    error=self.error,
                    ended_early=self.ended_early,
                    begins_late=self.begins_late,
                    spoiled=self.spoiled,
                )
            )

    async def _run_repeatedly(self, ready: Ready[float], timeout: float) -> EndReason:
        """Run one process after the other until the recording ends."""
        tools = await find_installation()
        retrier = Retrier(self._watch.backoff)
        while True:
            plan = await asyncio.to_thread(self._plan, tools)
            if not plan.graph.factories <= tools.elements:
                tools = await find_installation(plan.graph.factories)
            run = ProcessRun(plan, self._close_segment, self._report_other_stream)
            run.listening.add_done_callback(lambda _: self._listening.set())
            reason = await self._run_once(run, tools, ready, timeout)
            if reason is not None:
                return reason
            if run.first_frame.done() and run.seen_at - run.began_at > self._watch.backoff.maximum:
                retrier.reset()
            await asyncio.wait({self._stop_requested}, timeout=retrier.next_delay())
            if self._stop_requested.done():
                return EndReason.STOPPED

    def _plan(self, tools: Installation) -> Plan:
        directory = self._pipeline.output.directory
        if directory is not None and not directory.is_dir():
            raise StorageError(f"{directory} is not a directory")
        index = len(self._runs)
        return self._pipeline.plan(tools.elements, index, held=self._armed_start is not None and index == 0)

    async def _run_once(
        self, run: ProcessRun, tools: Installation, ready: Ready[float], timeout: float
    ) -> EndReason | None:
        """Run one process from start to end; return None if another is to follow."""
        is_first = self.first_frame_at is None
        self._runs.append(run)
        # A restarted process has to connect first, so it may take longer than a stall.
        frame_timeout = timeout if is_first else 2 * self._watch.stall
        try:
            if self._armed_start is None or not is_first:
                process = await run.start(tools, self._environment)
            else:
                process, frame_timeout = await self._start_armed(self._armed_start, run, tools, timeout)
            signs: set[asyncio.Future[Any]] = {run.first_frame, process.exited, self._stop_requested}
            await asyncio.wait(signs, timeout=frame_timeout, return_when=asyncio.FIRST_COMPLETED)
            reason: EndReason | None = None
            if self._stop_requested.done() and not run.first_frame.done():
                reason = EndReason.STOPPED
            elif run.first_frame.done() and await run.has_frame():
                self._note_started(run, ready)
                reason = await self._monitor(run, process)
                if reason is EndReason.LIMIT:
                    # The limit counts from the first frame, which is as late as the last one.
                    self._note_asked_to_end(run.plan.stream.latency)
                elif reason is EndReason.STOPPED:
                    await self._drain(run, process)
                return reason
        finally:
            await finish(self._close_run(run))
        if reason is None and is_first:
            raise run.no_frame_error(self.name, frame_timeout)
        return reason

    async def _start_armed(
        self, armed: "_ArmedStart", run: ProcessRun, tools: Installation, timeout: float
    ) -> tuple[LaunchProcess, float]:
        """Start a run's process and hold its first frame back until `start`.

        A process whose first frame cannot be held back is started only then. Returns the process, and the
        seconds that its first frame may take from here: 0 if the process has ended.
        """
        stop = self._stop_requested
        process = await run.start(tools, self._environment) if run.plan.armed else None
        ends: set[asyncio.Future[Any]] = {stop} if process is None else {stop, process.exited}
        if process is not None:
            await asyncio.wait({run.ready, *ends}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if process.exited.done():
                return process, 0.0
            if not run.ready.done() and not stop.done():
                raise run.no_frame_error(self.name, timeout)
        if not stop.done():
            self._move(RecorderState.ARMED)
            armed.ready(None)
        await asyncio.wait({armed.released, *ends}, return_when=asyncio.FIRST_COMPLETED)
        if stop.done():
            raise RecordingError(f"{self.name}: stopped before the first frame")
        if process is None:
            return await run.start(tools, self._environment), armed.released.result()
        if not armed.released.done():
            return process, 0.0
        await asyncio.wait(ends, timeout=run.plan.backlog, return_when=asyncio.FIRST_COMPLETED)
        run.release()
        return process, armed.released.result()

    def _note_started(self, run: ProcessRun, ready: Ready[float]) -> None:
        at = run.first_frame.result()
        self._last_run = run
        self._move(RecorderState.RECORDING)
        if self.first_frame_at is not None:
            self._close_gap(at, restarted=True)
            return
        self._first_run = run
        self.first_frame_at, self.first_frame_bound = at, run.first_frame_bound
        self._began_at = run.began_at
        if self._limits.seconds is not None:
            self._ends_at = run.began_at + self._limits.seconds
        self.events.emit(
            RecorderStarted(recorder=self.name, first_frame_at=at, first_frame_bound=self.first_frame_bound)
        )
        ready(at)

    async def _monitor(self, run: ProcessRun, process: LaunchProcess) -> EndReason | None:
        """Check a run until something ends it; return None if another is to follow."""
        stalled = False
        while True:
            left = self._ends_at - time.monotonic() if self._ends_at is not None else self._watch.interval
            await asyncio.wait(
                {process.exited, self._stop_requested, self._limit_reached},
                timeout=max(0.0, min(left, self._watch.interval)),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if self._stop_requested.done():
                return EndReason.STOPPED
            # Checked before the end of the process: a limit that is reached is the reason, not that end.
            if self._is_at_limit(await self._check_progress(run)):
                return EndReason.LIMIT
            if process.exited.done():
                return self._note_process_ended(run, process, stalled=stalled)
            was_stalled, stalled = stalled, time.monotonic() - run.grown_at >= self._watch.stall
            if stalled and not was_stalled:
                self._move(RecorderState.STALLED)
                self._open_gap(run, run.with_trouble(f"no frame arrived for {self._watch.stall:g} s"))
            elif was_stalled and not stalled:
                self._move(RecorderState.RECORDING)
                self._close_gap(run.grown_at_wall)
            if stalled and self._watch.restart:
                self._move(RecorderState.RESTARTING)
                return None

    def _is_at_limit(self, size: int) -> bool:
        if self._limit_reached.done() or (self._ends_at is not None and time.monotonic() >= self._ends_at):
            return True
        return self._limits.size is not None and size >= self._limits.size

    def _note_process_ended(
        self, run: ProcessRun, process: LaunchProcess, *, stalled: bool
    ) -> EndReason | None:
        finished = run.end_of_stream and process.returncode == 0
        cause = run.failure or (
            "the stream ended" if finished else f"gst-launch-1.0 ended with status {process.returncode}"
        )
        if self._watch.restart:
            self._move(RecorderState.RESTARTING)
            if not stalled:
                self._open_gap(run, cause)
            return None
        if finished:
            return EndReason.END_OF_STREAM
        raise RecordingError(f"{self.name}: {cause}", output=process.output)

    async def _drain(self, run: ProcessRun, process: LaunchProcess) -> None:
        """Go on until the frames that were made when the recording was asked to end have arrived."""
        latency = run.plan.stream.latency
        if latency and self._asked_to_end_at is not None:
            left = self._asked_to_end_at + latency + _FRAME_DELAY - time.monotonic()
            await asyncio.wait({process.exited}, timeout=max(0.0, left))

    async def _close_run(self, run: ProcessRun) -> None:
        """End the process; a run that never had a frame leaves no file."""
        had_frame = run.first_frame.done() and self.state not in (RecorderState.STARTING, RecorderState.ARMED)
        await run.stop(self._deadlines if had_frame else NOTHING_TO_FINISH)
        if had_frame:
            return
        for verdict in await verify_files(run.plan.files):
            await asyncio.to_thread(verdict.path.unlink, missing_ok=True)
            if self.first_frame_at is None:
                self._discarded.append(replace(verdict, detail=f"{verdict.detail}; removed".lstrip("; ")))

    async def _read_files(self) -> None:
        """Read every file that is kept; the last ones were finished since the disk was last checked."""
        if self._runs:
            try:
                await asyncio.to_thread(check_disk, [run.plan.files for run in self._runs])
            except StorageError as error:
                if self.error is None:
                    self.error, self.reason = error, EndReason.FAILED
        verdicts: list[FileVerdict] = []
        for run in self._runs:
            found = await run.verdicts(decode=self._decode)
            if run is self._last_run:
                self._coverage = measure_coverage(
                    run,
                    found,
                    reason=self._why_ended(run),
                    stall=self._watch.stall,
                    is_stalled=bool(self._gaps) and not self._gaps[-1].resumed,
                )
            if run.first_frame.done():
                self._add_gaps(await find_gaps(found, run.first_frame.result()))
            if run is self._first_run:
                self.first_frame_bound += self._seconds_earlier(run, found)
            verdicts += found
        by_path = {verdict.path: verdict for verdict in (*self._discarded, *verdicts)}
        self.verdicts = tuple(by_path.values())

    def _why_ended(self, run: ProcessRun) -> str:
        """Return why the video ended, should it turn out to have ended early."""
        if self.error is not None:
            return run.with_trouble(str(self.error))
        ended = self.reason is EndReason.END_OF_STREAM
        return run.with_trouble("the stream ended" if ended else "no more frames arrived")

    def _seconds_earlier(self, run: ProcessRun, verdicts: list[FileVerdict]) -> float:
        """Return the seconds by which the first frame may be older than the bound already reported.

        Where the source was silent just before the gate was opened, the frames that waited there are older
        than assumed. Then the files are longer than the run, or end early.
        """
        length = run.length(verdicts)
        if length is None or run.ended_at is None or not run.plan.backlog:
            return 0.0
        excess = run.began_at + length * (1 - LENGTH_DRIFT) - run.ended_at
        silent = run.unseen if self.ended_early is not None else 0.0
        return max(excess if excess > _FRAME_DELAY else 0.0, silent)

    # -- reports --------------------------------------------------------------------------------

    async def _check_progress(self, run: ProcessRun) -> int:
        """Check the disk, report progress and a disk that fills up; return the bytes of all files."""
        async with deadline(_DISK_SECONDS, f"answer from the disk of {self.name}"):
            size, free = await asyncio.to_thread(check_disk, [run.plan.files for run in self._runs])
        run.note_size(size)
        self.events.emit(
            RecorderProgress(
                recorder=self.name,
                bytes=size,
                frames=sum(run.frames for run in self._runs),
                fps=run.fps,
                dropped=sum(run.dropped for run in self._runs),
                spoiled=self.spoiled,
            )
        )
        if free is None or free >= self._watch.low_space:
            self._is_disk_low = False
        elif not self._is_disk_low:
            self._is_disk_low = True
            seconds = free / run.rate if run.rate else None
            self.events.emit(RecorderDiskLow(recorder=self.name, free=free, seconds=seconds))
        return size

    def _close_segment(self, path: Path | None, duration: float) -> None:
        self.events.emit(RecorderSegmentClosed(recorder=self.name, path=path, duration=duration))
        limit, finished = self._limits.segments, sum(run.segments for run in self._runs)
        if limit is not None and finished >= limit and not self._limit_reached.done():
            self._limit_reached.set_result(None)

    def _report_other_stream(self, other: RtpSender) -> None:
        self.events.emit(
            RecorderOtherStream(recorder=self.name, address=other.address, port=other.port, ssrc=other.ssrc)
        )

    def _open_gap(self, run: ProcessRun, reason: str) -> None:
        """Note and report that no frames arrive since the run was last seen to grow."""
        self._gap_began = run.grown_at_wall
        self.events.emit(RecorderStalled(recorder=self.name, since=run.grown_at_wall, reason=reason))

    def _close_gap(self, ended: float, *, restarted: bool = False, resumed: bool = True) -> None:
        """Close the open gap, if there is one: frames arrive again, or the recording is over."""
        if self._gap_began is None:
            return
        gap, self._gap_began = Gap(self._gap_began, ended, restarted, resumed), None
        self._gaps = (*self._gaps, gap)
        if resumed:
            self.events.emit(RecorderResumed(recorder=self.name, gap=gap))

    def _add_gaps(self, found: Iterable[Gap]) -> None:
        """Add gaps found in the files, except those noticed already while recording."""
        new = [
            gap
            for gap in found
            if not any(gap.began <= known.ended and known.began <= gap.ended for known in self._gaps)
        ]
        self._gaps = tuple(sorted((*self._gaps, *new), key=lambda gap: gap.began))

    def _note_asked_to_end(self, ago: float = 0.0) -> None:
        if self._asked_to_end_at is None:
            self._asked_to_end_at = time.monotonic() - ago

    def _move(self, state: RecorderState) -> None:
        if state not in TRANSITIONS[self.state]:
            raise StateError(f"{self.name} cannot go from {self.state.value} to {state.value}")
        _LOG.debug("recorder %s: %s -> %s", self.name, self.state.value, state.value)
        self.state = state


class _ArmedStart:
    """Futures of a start that is armed ahead of time; `Recorder.state` says how far it is."""

    def __init__(self, ready: Ready[None]) -> None:
        loop = asyncio.get_running_loop()
        self.ready = ready  # called when the recorder is armed
        # Set by `Recorder.start` to the seconds that the first frame may take.
        self.released: asyncio.Future[float] = loop.create_future()
        self.first_frame: asyncio.Future[float] = loop.create_future()  # set to the time of the first frame
