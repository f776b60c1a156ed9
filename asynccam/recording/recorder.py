"""Recorder: one recording from its first frame to the verdict on its last file."""

import asyncio
import logging
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType, TracebackType
from typing import Any, Final

from asynccam.errors import AsynccamError, RecordingError, StateError, StorageError, UsageError
from asynccam.model.coverage import LENGTH_DRIFT, EarlyEnd, LateBegin
from asynccam.recording.arming import Arming
from asynccam.recording.coverage import CoverageResult, ending_of
from asynccam.recording.events import (
    TRANSITIONS,
    EndReason,
    Gap,
    RecorderEnded,
    RecorderOtherStream,
    RecorderStarted,
    RecorderState,
)
from asynccam.recording.follower import RecordingMonitor
from asynccam.recording.gstreamer import Installation, find_installation
from asynccam.recording.holes import find_holes
from asynccam.recording.options import DEFAULT_WATCH, NO_LIMITS, Limits, Watch
from asynccam.recording.pipeline import Pipeline, Plan
from asynccam.recording.process import DEFAULT_DEADLINES, NOTHING_TO_FINISH, LaunchProcess, StopDeadlines
from asynccam.recording.process_run import FIRST_FRAME_BOUND, Run, survey
from asynccam.recording.progress import ProgressReporter
from asynccam.recording.rtp.stream import RtpSender, RtpStream
from asynccam.recording.verify import FileVerdict, verify_files
from asynccam.runtime.event_hub import EventHub
from asynccam.runtime.tasks import Ready, TaskScope, finish
from asynccam.wall_clock import unix_now

_LOG = logging.getLogger(__name__)

_SET_UP_SECONDS: Final = 60.0
_ON_THE_WAY: Final = 0.1
"""Seconds that a frame takes from the camera to the source's buffer: to encode and to send it. Assumed."""
_RUNNING: Final = {RecorderState.RECORDING, RecorderState.STALLED, RecorderState.RESTARTING}
_NOT_BEGUN: Final = {RecorderState.STARTING, RecorderState.ARMED}
_NO_VARIABLES: Final[Mapping[str, str]] = MappingProxyType({})


class Recorder:
    """Records one pipeline once, with ``gst-launch-1.0``, and says what is on the disk.

    A context manager: leaving it stops the recording. Must live in the thread that runs the loop;
    the kernel ends the recording when that thread dies.

    Args:
        pipeline: What to record, and where to.
        name: What events and errors call it.
        limits: When it ends by itself.
        watch: What it looks for meanwhile.
        deadlines: How patiently its process is stopped.
        decode: Whether verdicts decode every picture, which takes its time.
        environment: Variables for the process, ``GST_DEBUG`` for example.
        events: Where to tell what happens; a hub of its own without one.

    Attributes:
        events: Where it tells what happens.
        state: Where it stands.
        first_frame_at: When the first frame reached the muxer, Unix seconds, or None.
        first_frame_bound: It was there at most this many seconds earlier.
        verdicts: What each file is worth; filled when the recording is over.
        error: What ended the recording, or None.
        reason: Why it ended, or None while it has not.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        name: str = "recorder",
        limits: Limits = NO_LIMITS,
        watch: Watch = DEFAULT_WATCH,
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
        self._follower: RecordingMonitor | None = None
        self._over: asyncio.Future[None] | None = None
        self._arming: Arming | None = None
        self._discarded: list[FileVerdict] = []
        self._teller = ProgressReporter(name, self.events, watch.low_space)
        self._first: Run | None = None  # the first one that had a frame
        self._last: Run | None = None  # the last one that had a frame
        self._wanted_at: float | None = None  # when an armed start was let go, monotonic
        self._began_at: float | None = None  # when the first frame was there, monotonic
        self._asked_at: float | None = None  # until when it was to show what happens, monotonic
        self._ending: CoverageResult | None = None
        self._listening = asyncio.Event()

    async def arm(self, *, timeout: float = 10.0) -> None:
        """Start the process ahead of time and throw its frames away; `start` records the next one.

        Returns when that can be done at once: when frames come, or where they are made here, when they could
        be. A source that sends frames which build on each other cannot be held back so; then this only looks
        whether all is there, and `start` starts the process. When it raises, nothing is left.

        Args:
            timeout: Seconds that may take.

        Raises:
            StateError: It was armed or started before.
            RecordingError, TimeoutError, TargetExistsError, StorageError: As for `start`.
        """
        follower = self._begin()

        def record(armed: Ready[None]) -> Coroutine[Any, Any, None]:
            self._arming = Arming(self.name, armed)
            return self._record(follower, self._arming.began, timeout)

        await self._scope.start(record, name="record", timeout=timeout + _SET_UP_SECONDS)

    async def start(self, *, timeout: float = 10.0) -> float:
        """Start, and return when the first frame has reached the muxer.

        When it raises, the process is gone, and so is what it wrote. After `arm` the first frame is the first
        one that comes after this call.

        Args:
            timeout: Seconds the first frame may take from the start of the process, or after `arm`.

        Returns:
            The first frame's time, ``first_frame_at``.

        Raises:
            StateError: It was started before.
            RecordingError: GStreamer or an element is missing, or the pipeline gave up; its last
                words are in ``output``.
            TimeoutError: No frame came.
            TargetExistsError, StorageError: The output is taken or cannot be written.
        """
        if self._arming is not None and self._arming.waiting:
            return await self._start_armed(self._arming, timeout)
        follower = self._begin()
        return await self._scope.start(
            lambda ready: self._record(follower, ready, timeout),
            name="record",
            timeout=timeout + _SET_UP_SECONDS,
        )

    async def listening(self) -> None:
        """Wait until its process takes the packets of an RTP stream, or the recording is over."""
        await self._listening.wait()

    async def stop(self) -> tuple[FileVerdict, ...]:
        """Finish the recording and read its files; harmless when it is over already.

        Where the source holds frames back (`SrtJpegSource`, `RtpSource`, `RtspSource`), the recording goes on
        for its latency and a tenth of a second, until the frames that show this moment have arrived.

        Cancelled, it still sees the process end and the files read before it lets go.

        Returns:
            What each file is worth, oldest first. ``error`` tells what went wrong, if anything.

        Raises:
            StateError: It was never started.
        """
        if self._follower is None or self._over is None:
            raise StateError(f"{self.name} was never started")
        self._asked()
        if not self._follower.stop.done():
            self._follower.stop.set_result(None)
        await finish(self._over)
        return self.verdicts

    async def wait(self) -> tuple[FileVerdict, ...]:
        """Wait until the recording ends by itself; the same result as `stop`.

        Raises:
            StateError: It was never started.
        """
        if self._over is None:
            raise StateError(f"{self.name} was never started")
        await asyncio.shield(self._over)
        return self.verdicts

    def reset_timer(self, seconds: float) -> bool:
        """Let it go on for so many seconds from now, whatever its limit was; noticed within a second.

        Returns:
            Whether there was something to go on with: False before the first frame, and when it is over.

        Raises:
            UsageError: ``seconds`` is not above 0.
        """
        if not seconds > 0:
            raise UsageError(f"a recording goes on for more than 0 s, not for {seconds}")
        if self._follower is None or self.state not in _RUNNING:
            return False
        self._follower.go_on_for(seconds)
        return True

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """Times without frames so far."""
        return self._teller.gaps

    @property
    def spoiled(self) -> int:
        """Pictures of Motion JPEG that were left out so far because they came broken."""
        return 0 if self._follower is None else sum(run.spoiled for run in self._follower.runs)

    @property
    def rtp(self) -> RtpStream | None:
        """What is known of the RTP stream whose frames come, or came last; None before it is started."""
        runs = [] if self._follower is None else self._follower.runs
        return (self._last or runs[-1]).rtp if runs else None

    @property
    def ended_early(self) -> EarlyEnd | None:
        """That its video ends clearly before it was told to, or None; None too while it is not over.

        A file may well be whole and yet end early, when its sender died. See docs/recording.md.
        """
        return None if self._ending is None else self._ending.early(self._asked_at)

    @property
    def begins_late(self) -> LateBegin | None:
        """That its video begins clearly after an armed start was let go, or None.

        None too while it is not over, and for a start that was not armed.
        """
        if self._ending is None or self._wanted_at is None:
            return None
        if self._began_at is None or self.first_frame_at is None:
            return None
        return self._ending.late(self.first_frame_at, self._began_at, self._wanted_at)

    async def aclose(self) -> None:
        """Stop if it runs, and let every listener go; harmless when called twice."""
        if self._follower is not None:
            await self.stop()
        await self._scope.aclose()
        if self._own_events:
            await self.events.aclose()

    async def __aenter__(self) -> "Recorder":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # -- start ----------------------------------------------------------------------------------

    def _begin(self) -> RecordingMonitor:
        if self.state is not RecorderState.IDLE:
            raise StateError(f"{self.name} was started before; a recorder records once")
        self._move(RecorderState.STARTING)
        self._over = asyncio.get_running_loop().create_future()
        self._follower = RecordingMonitor(
            self.name, self.events, self._limits, self._watch, self._teller, self._move
        )
        return self._follower

    async def _start_armed(self, arming: Arming, timeout: float) -> float:
        assert self._over is not None
        self._wanted_at = time.monotonic()
        try:
            at = await arming.start(timeout, self._over)
        except BaseException:
            await self.stop()
            raise
        if at is None:
            raise self.error or StateError(f"{self.name} was closed before the first frame")
        return at

    # -- the recording's own task ---------------------------------------------------------------

    async def _record(self, follower: RecordingMonitor, ready: Ready[float], timeout: float) -> None:
        """Run until the end, whatever it is, then read the files."""
        assert self._over is not None
        try:
            try:
                self.reason = await self._run_on(follower, ready, timeout)
                if self.first_frame_at is None:
                    raise RecordingError(f"{self.name}: stopped before the first frame")
            except AsynccamError as error:
                self.error, self.reason = error, EndReason.FAILED
                if self.first_frame_at is None and (self._arming is None or not self._arming.armed):
                    raise  # to whoever waits in `arm` or `start`; once armed, `start` asks
            finally:
                if self.reason is None:  # cancelled
                    self._asked()
                    self.reason = EndReason.STOPPED
                self._move(RecorderState.STOPPING)
                self._teller.close_gap(unix_now(), resumed=False)
                await finish(self._judge(follower.runs))
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

    async def _run_on(self, follower: RecordingMonitor, ready: Ready[float], timeout: float) -> EndReason:
        """One run after another."""
        tools = await find_installation()
        delays = self._watch.backoff.delays()
        while True:
            plan = await asyncio.to_thread(self._plan, tools, len(follower.runs))
            if not plan.graph.factories <= tools.elements:
                tools = await find_installation(plan.graph.factories)
            run = Run(plan, follower.segment_closed, self._other_stream)
            run.listening.add_done_callback(lambda _: self._listening.set())
            reason = await self._run_once(follower, run, tools, ready, timeout)
            if reason is not None:
                return reason
            await asyncio.wait({follower.stop}, timeout=next(delays))
            if follower.stop.done():
                return EndReason.STOPPED

    def _plan(self, tools: Installation, number: int) -> Plan:
        directory = self._pipeline.output.directory
        if directory is not None and not directory.is_dir():
            raise StorageError(f"{directory} is not a directory")
        return self._pipeline.plan(tools.elements, number, held=self._arming is not None and not number)

    async def _run_once(
        self, follower: RecordingMonitor, run: Run, tools: Installation, ready: Ready[float], timeout: float
    ) -> EndReason | None:
        """One process from start to end; None if another is to follow."""
        first = self.first_frame_at is None
        follower.runs.append(run)
        patience = timeout if first else 2 * self._watch.stall
        process: LaunchProcess | None = None
        try:
            if self._arming is None or not first:
                process = await run.start(tools, self._environment)
            else:
                process, patience = await self._arming.hold(
                    run,
                    lambda: run.start(tools, self._environment),
                    follower.stop,
                    timeout,
                    lambda: self._move(RecorderState.ARMED),
                )
            reason = await follower.first_frame(process, patience)
            if reason is None and run.first_frame.done() and await run.has_frame():
                self._started(follower, run, ready)
                reason = await follower.follow(process)
                if reason is EndReason.LIMIT:
                    self._asked(
                        run.latency
                    )  # it counts from the first frame, which is as late as the last one
                elif reason is EndReason.STOPPED:
                    await self._drain(run, process)
                return reason
        finally:
            await finish(self._close_run(run))
        if reason is None and first:
            raise run.no_frame(self.name, patience)
        return reason

    def _started(self, follower: RecordingMonitor, run: Run, ready: Ready[float]) -> None:
        at = run.first_frame.result()
        self._last = run
        self._move(RecorderState.RECORDING)
        if self.first_frame_at is None:
            self._first = run
            self.first_frame_at, self.first_frame_bound = at, run.first_frame_bound
            self._began_at = run.began_at
            follower.begin_at(run.began_at)
            self.events.emit(
                RecorderStarted(
                    recorder=self.name, first_frame_at=at, first_frame_bound=self.first_frame_bound
                )
            )
            ready(at)
        else:
            self._teller.close_gap(at, restarted=True)

    async def _drain(self, run: Run, process: LaunchProcess) -> None:
        """Go on until the frames that were made when the recording was told to end have arrived."""
        if run.latency and self._asked_at is not None:
            left = self._asked_at + run.latency + _ON_THE_WAY - time.monotonic()
            await asyncio.wait({process.exited}, timeout=max(0.0, left))

    async def _close_run(self, run: Run) -> None:
        """End the process; a run that never started leaves no file."""
        had_frame = run.first_frame.done() and self.state not in _NOT_BEGUN
        await run.stop(self._deadlines if had_frame else NOTHING_TO_FINISH)
        if had_frame:
            return
        for verdict in await verify_files(run.files):
            await asyncio.to_thread(verdict.path.unlink, missing_ok=True)
            if self.first_frame_at is None:
                self._discarded.append(replace(verdict, detail=f"{verdict.detail}; removed".lstrip("; ")))

    async def _judge(self, runs: Sequence[Run]) -> None:
        """Read every file that is kept; the last ones were finished since the disk was last looked at."""
        if runs:
            try:
                await asyncio.to_thread(survey, [run.files for run in runs])
            except StorageError as error:
                if self.error is None:
                    self.error, self.reason = error, EndReason.FAILED
        verdicts: list[FileVerdict] = []
        for run in runs:
            found = await run.verdicts(decode=self._decode)
            if run is self._last:
                self._ending = ending_of(self, run, found, self._watch.stall)
            if run.first_frame.done():
                self._teller.found_gaps(await find_holes(found, run.first_frame.result()))
            if run is self._first:
                self.first_frame_bound += self._earlier(run, found)
            verdicts += found
        by_path = {verdict.path: verdict for verdict in (*self._discarded, *verdicts)}
        self.verdicts = tuple(by_path.values())

    def _other_stream(self, other: RtpSender) -> None:
        self.events.emit(
            RecorderOtherStream(recorder=self.name, address=other.address, port=other.port, ssrc=other.ssrc)
        )

    def _earlier(self, run: Run, verdicts: Sequence[FileVerdict]) -> float:
        """Return the seconds by which its first frame may have come before the bound that was told.

        Where the source fell silent just before the gate was opened, the frames that waited there are older
        than it was thought. Then the files are longer than the run, or end early.
        """
        length = run.length(verdicts)
        if length is None or run.ended_at is None or not run.backlog:
            return 0.0
        excess = run.began_at + length * (1 - LENGTH_DRIFT) - run.ended_at
        silent = run.unseen if self.ended_early is not None else 0.0
        return max(excess if excess > _ON_THE_WAY else 0.0, silent)

    def _asked(self, ago: float = 0.0) -> None:
        if self._asked_at is None:
            self._asked_at = time.monotonic() - ago

    def _move(self, state: RecorderState) -> None:
        if state not in TRANSITIONS[self.state]:
            raise StateError(f"{self.name}: no way from {self.state.value} to {state.value}")
        _LOG.debug("recorder %s: %s -> %s", self.name, self.state.value, state.value)
        self.state = state
