"""Recorder: one recording from its first frame to the verdict on its last file."""

import asyncio
import time
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Final

from asynccam.errors import AsynccamError, RecordingError, StateError, StorageError, UsageError
from asynccam.model.ending import EarlyEnd
from asynccam.recording.arming import Arming
from asynccam.recording.ending import Ending, ending_of
from asynccam.recording.events import (
    TRANSITIONS,
    EndReason,
    Gap,
    RecorderEnded,
    RecorderSegmentClosed,
    RecorderStarted,
    RecorderState,
)
from asynccam.recording.installation import Installation, find_installation
from asynccam.recording.options import DEFAULT_WATCH, NO_LIMITS, Limits, Watch
from asynccam.recording.pipeline import Pipeline, Plan
from asynccam.recording.process import DEFAULT_DEADLINES, NOTHING_TO_FINISH, LaunchProcess, StopDeadlines
from asynccam.recording.progress import ProgressTeller
from asynccam.recording.run import FIRST_FRAME_BOUND, Run, survey
from asynccam.recording.verdict import FileVerdict, verify_files
from asynccam.runtime.hub import EventHub
from asynccam.runtime.tasks import Ready, TaskScope, finish
from asynccam.runtime.timing import deadline

_SET_UP_SECONDS: Final = 60.0
_DISK_SECONDS: Final = 30.0
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
        self._stop: asyncio.Future[None] | None = None
        self._over: asyncio.Future[None] | None = None
        self._runs: list[Run] = []
        self._enough: asyncio.Future[None] | None = None
        self._arming: Arming | None = None
        self._until: float | None = None
        self._discarded: list[FileVerdict] = []
        self._teller = ProgressTeller(name, self.events, watch.low_space)
        self._last: Run | None = None  # the last one that had a frame
        self._asked_at: float | None = None  # when it was told to end, monotonic
        self._ending: Ending | None = None

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
        self._begin()

        def record(armed: Ready[None]) -> Coroutine[Any, Any, None]:
            self._arming = Arming(self.name, armed)
            return self._record(self._arming.began, timeout)

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
        self._begin()
        return await self._scope.start(
            lambda ready: self._record(ready, timeout), name="record", timeout=timeout + _SET_UP_SECONDS
        )

    async def stop(self) -> tuple[FileVerdict, ...]:
        """Finish the recording and read its files; harmless when it is over already.

        Cancelled, it still sees the process end and the files read before it lets go.

        Returns:
            What each file is worth, oldest first. ``error`` tells what went wrong, if anything.

        Raises:
            StateError: It was never started.
        """
        if self._stop is None or self._over is None:
            raise StateError(f"{self.name} was never started")
        self._asked()
        if not self._stop.done():
            self._stop.set_result(None)
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
        if self.state not in _RUNNING:
            return False
        self._until = time.monotonic() + seconds
        return True

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """Times without frames so far."""
        return self._teller.gaps

    @property
    def ended_early(self) -> EarlyEnd | None:
        """That its video ends clearly before it was told to, or None; None too while it is not over.

        A file may well be whole and yet end early, when its sender died. See docs/recording.md.
        """
        return None if self._ending is None else self._ending.early(self._asked_at)

    async def aclose(self) -> None:
        """Stop if it runs, and let every listener go; harmless when called twice."""
        if self._stop is not None:
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

    def _begin(self) -> None:
        if self.state is not RecorderState.IDLE:
            raise StateError(f"{self.name} was started before; a recorder records once")
        loop = asyncio.get_running_loop()
        self._move(RecorderState.STARTING)
        self._stop, self._over, self._enough = (loop.create_future() for _ in range(3))

    async def _start_armed(self, arming: Arming, timeout: float) -> float:
        assert self._over is not None
        try:
            at = await arming.start(timeout, self._over)
        except BaseException:
            await self.stop()
            raise
        if at is None:
            raise self.error or StateError(f"{self.name} was closed before the first frame")
        return at

    # -- the recording's own task ---------------------------------------------------------------

    async def _record(self, ready: Ready[float], timeout: float) -> None:
        """Run until the end, whatever it is, then read the files."""
        assert self._over is not None
        try:
            try:
                self.reason = await self._run_on(ready, timeout)
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
                self._teller.close_gap(time.time(), resumed=False)
                await finish(self._judge())
        finally:
            assert self.reason is not None
            self._move(RecorderState.FAILED if self.error is not None else RecorderState.ENDED)
            self._over.set_result(None)
            self.events.emit(
                RecorderEnded(
                    recorder=self.name,
                    reason=self.reason,
                    verdicts=self.verdicts,
                    error=self.error,
                    ended_early=self.ended_early,
                )
            )

    async def _run_on(self, ready: Ready[float], timeout: float) -> EndReason:
        """One run after another."""
        assert self._stop is not None
        tools = await find_installation()
        delays = self._watch.backoff.delays()
        while True:
            plan = await asyncio.to_thread(self._plan, tools)
            if not plan.graph.factories <= tools.elements:
                tools = await find_installation(plan.graph.factories)
            reason = await self._run_once(Run(plan, self._segment_closed), tools, ready, timeout)
            if reason is not None:
                return reason
            await asyncio.wait({self._stop}, timeout=next(delays))
            if self._stop.done():
                return EndReason.STOPPED

    def _plan(self, tools: Installation) -> Plan:
        directory = self._pipeline.output.directory
        if directory is not None and not directory.is_dir():
            raise StorageError(f"{directory} is not a directory")
        number = len(self._runs)
        return self._pipeline.plan(tools.elements, number, held=self._arming is not None and not number)

    async def _run_once(
        self, run: Run, tools: Installation, ready: Ready[float], timeout: float
    ) -> EndReason | None:
        """One process from start to end; None if another is to follow."""
        assert self._stop is not None
        first = self.first_frame_at is None
        self._runs.append(run)
        patience = timeout if first else 2 * self._watch.stall
        process: LaunchProcess | None = None
        try:
            if self._arming is None or not first:
                process = await run.start(tools, self._environment)
            else:
                process, patience = await self._arming.hold(
                    run,
                    lambda: run.start(tools, self._environment),
                    self._stop,
                    timeout,
                    lambda: self._move(RecorderState.ARMED),
                )
            reason = await self._first_frame(run, process, patience)
            if reason is None and run.first_frame.done() and await run.has_frame():
                self._started(run, ready)
                return await self._follow(run, process)
        finally:
            await finish(self._close_run(run))
        if reason is None and first:
            raise run.no_frame(self.name, patience)
        return reason

    async def _first_frame(self, run: Run, process: LaunchProcess, timeout: float) -> EndReason | None:
        assert self._stop is not None
        signs: set[asyncio.Future[Any]] = {run.first_frame, process.exited, self._stop}
        await asyncio.wait(signs, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        return EndReason.STOPPED if self._stop.done() and not run.first_frame.done() else None

    def _started(self, run: Run, ready: Ready[float]) -> None:
        at = run.first_frame.result()
        self._last = run
        self._move(RecorderState.RECORDING)
        if self.first_frame_at is None:
            self.first_frame_at, self.first_frame_bound = at, run.first_frame_bound
            if self._limits.seconds is not None:
                self._until = time.monotonic() + self._limits.seconds - (time.time() - at)
            self.events.emit(
                RecorderStarted(
                    recorder=self.name, first_frame_at=at, first_frame_bound=self.first_frame_bound
                )
            )
            ready(at)
        else:
            self._teller.close_gap(at, restarted=True)

    async def _follow(self, run: Run, process: LaunchProcess) -> EndReason | None:
        """Watch a run that has its first frame until something ends it."""
        assert self._stop is not None
        assert self._enough is not None
        while True:
            left = self._until - time.monotonic() if self._until is not None else self._watch.interval
            await asyncio.wait(
                {process.exited, self._stop, self._enough},
                timeout=max(0.0, min(left, self._watch.interval)),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if self._stop.done():
                return EndReason.STOPPED
            async with deadline(_DISK_SECONDS, f"answer from the disk of {self.name}"):
                seen = await asyncio.to_thread(survey, [one.files for one in self._runs])
            total = self._teller.look(self._runs, seen)
            over = self._until is not None and time.monotonic() >= self._until
            if over or self._enough.done() or (self._limits.size is not None and total >= self._limits.size):
                self._asked()
                return EndReason.LIMIT
            if process.exited.done():
                return self._ended_by_itself(run, process)
            stalled = time.monotonic() - run.grown_at >= self._watch.stall
            if stalled and self.state is RecorderState.RECORDING:
                self._move(RecorderState.STALLED)
                self._teller.open_gap(run, f"nothing came for {self._watch.stall:g} s")
            elif not stalled and self.state is RecorderState.STALLED:
                self._move(RecorderState.RECORDING)
                self._teller.close_gap(run.grown_wall)
            if stalled and self._watch.restart:
                self._move(RecorderState.RESTARTING)
                return None

    def _ended_by_itself(self, run: Run, process: LaunchProcess) -> EndReason | None:
        finished = run.end_of_stream and process.returncode == 0
        why = run.failure or (
            "the stream ended" if finished else f"gst-launch-1.0 ended with status {process.returncode}"
        )
        if self._watch.restart:
            recorded = self.state is RecorderState.RECORDING
            self._move(RecorderState.RESTARTING)
            if recorded:
                self._teller.open_gap(run, why)
            return None
        if finished:
            return EndReason.END_OF_STREAM
        raise RecordingError(f"{self.name}: {why}", output=process.output)

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

    def _segment_closed(self, path: Path | None, duration: float) -> None:
        assert self._enough is not None
        self.events.emit(RecorderSegmentClosed(recorder=self.name, path=path, duration=duration))
        limit = self._limits.segments
        if limit is not None and sum(run.segments for run in self._runs) >= limit and not self._enough.done():
            self._enough.set_result(None)

    async def _judge(self) -> None:
        """Read every file that is kept; the last ones were finished since the disk was last looked at."""
        if self._runs:
            try:
                await asyncio.to_thread(survey, [run.files for run in self._runs])
            except StorageError as error:
                if self.error is None:
                    self.error, self.reason = error, EndReason.FAILED
        verdicts: list[FileVerdict] = []
        for run in self._runs:
            found = await verify_files(run.files, decode=self._decode)
            if run is self._last:
                self._ending = ending_of(self, run, found, self._watch.stall)
            verdicts += found
        by_path = {verdict.path: verdict for verdict in (*self._discarded, *verdicts)}
        self.verdicts = tuple(by_path.values())

    def _asked(self) -> None:
        if self._asked_at is None:
            self._asked_at = time.monotonic()

    def _move(self, state: RecorderState) -> None:
        if state not in TRANSITIONS[self.state]:
            raise StateError(f"{self.name}: no way from {self.state.value} to {state.value}")
        self.state = state
