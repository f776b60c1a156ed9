"""Take: different cameras armed, started together, stopped, and their files downloaded. See docs/take.md."""

import asyncio
import builtins
import logging
import math
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from asynccam.errors import StateError, StorageError, TimeoutError, UsageError
from asynccam.model.camera import Camera
from asynccam.model.credentials import Credentials
from asynccam.model.digest import DigestName, checked_digest
from asynccam.model.events import TakePhaseChanged
from asynccam.model.filenames import safe_name
from asynccam.model.info import CameraInfo
from asynccam.model.manifest import CameraRecord, Manifest, MissingRecord, Moment, Outcome, StartRecord
from asynccam.runtime.disk import on_disk
from asynccam.runtime.tasks import TaskScope, finish, in_turn, see_done
from asynccam.runtime.timing import sleep_until
from asynccam.take.clocks import Reference, TakeClock, TimeServer
from asynccam.take.collector import Collector, FileCheck
from asynccam.take.outcome import infer_first_frame, judge_coverage, note_sleep, outcome_of, outcome_of_all
from asynccam.take.participant import Emit, Participant, TakeLimits
from asynccam.take.resume import Connector, Hosts, resume_take
from asynccam.take.store import ManifestStore, TakeDirectory, camera_directories
from asynccam.wall_clock import WALL_CLOCK, local_now, unix_now

_LOG = logging.getLogger(__name__)

_QUIET_BEFORE_T0: Final = 2.0
"""Seconds before T0 in which the time server is not asked: the starts are to leave on time."""
_ABORT_CLEANUP_TIMEOUT: Final = 1.0
"""Seconds for each part of the clean-up once the take is aborted."""


class TakeState(Enum):
    """State of a take; also the phase in its manifest and events."""

    NEW = "new"
    ARMING = "arming"
    ARMED = "armed"
    STARTING = "starting"
    RECORDING = "recording"
    STOPPING = "stopping"
    STOPPED = "stopped"
    COLLECTING = "collecting"
    DONE = "done"


_S = TakeState
TRANSITIONS: Final[Mapping[TakeState, frozenset[TakeState]]] = {
    _S.NEW: frozenset({_S.ARMING, _S.DONE}),
    _S.ARMING: frozenset({_S.ARMED, _S.DONE}),
    _S.ARMED: frozenset({_S.STARTING, _S.DONE}),
    # STARTING to STOPPING: cancelled before T0.
    _S.STARTING: frozenset({_S.RECORDING, _S.STOPPING, _S.DONE}),
    _S.RECORDING: frozenset({_S.STOPPING, _S.DONE}),
    _S.STOPPING: frozenset({_S.STOPPED, _S.DONE}),
    _S.STOPPED: frozenset({_S.COLLECTING, _S.DONE}),
    _S.COLLECTING: frozenset({_S.DONE}),
    _S.DONE: frozenset(),
}
_MAY_RECORD: Final = frozenset({_S.STARTING, _S.RECORDING, _S.STOPPING})
"""States in which cameras may record: a take that ends in one of them has not been stopped in order."""


class Take:
    """One recording with several cameras: `arm`, `start`, `stop`, `collect`, or all of them by `run`.

    A camera's failure is recorded in that camera's record; the others continue. When a step is cancelled,
    the take stops what was started, downloads what exists within `TakeLimits.cancel_timeout`, writes the
    manifest and lets the cancellation continue. Further cancellations change nothing; only `abort` cuts that
    short. As a context manager it does the same when the block is left before the end.

    Args:
        cameras: The cameras, each once.
        directory: Where takes are kept; the take makes a new directory in it.
        name: Name of the take, made safe; by default the time, ``take-20240131-142530``.
        limits: Bounds of every wait.
        time_server: Reference for T0 instead of this computer's clock.
        verify: Checks each file that was downloaded.
        emit: Receives the events.
        labels: Names that people give the cameras, by id; used for their directories.
        missing: Cameras that were to take part and are unavailable. Such a take is never complete.
        digest: Algorithm of the files' digests, None for no digests. ``blake3`` and ``xxh3`` need
            ``asynccam[speed]``.

    Attributes:
        state: The current `TakeState`.
        limits: As given.

    Raises:
        UsageError: No camera was given, or one of them twice; or the package of the digest is not installed.
    """

    def __init__(
        self,
        cameras: Sequence[Camera],
        directory: str | Path,
        *,
        name: str | None = None,
        limits: TakeLimits | None = None,
        time_server: TimeServer | None = None,
        verify: FileCheck | None = None,
        emit: Emit = lambda event: None,
        labels: Mapping[str, str] | None = None,
        missing: Sequence[MissingRecord] = (),
        digest: DigestName | None = "sha256",
    ) -> None:
        ids = [camera.id for camera in cameras]
        if not ids or len(set(ids)) < len(ids):
            raise UsageError(f"a take needs cameras, each of them once, not {ids}")
        self.state = TakeState.NEW
        self.limits = limits or TakeLimits()
        name = safe_name(name or local_now().strftime("take-%Y%m%d-%H%M%S"), fallback="take")
        self._emit = emit
        self._directory = TakeDirectory(Path(directory), name)
        self._manifest = _new_manifest(name, cameras, labels or {}, missing)
        self._manifest.digest = digest = checked_digest(digest)
        self._store = ManifestStore(self._directory, self._manifest)
        self._clock = TakeClock(self._manifest, emit, self._journal_clock)
        self._reference = Reference(
            time_server, self._update_reference, partial(self._store.record_error, "time server")
        )
        self._participants = {
            camera.id: Participant(camera, record, self.limits, emit, self._reference.computer_time)
            for camera, record in zip(cameras, self._manifest.cameras, strict=True)
        }
        self._collector = Collector(self._directory, self.limits, emit, verify, self._file_done, digest)
        self._slots = asyncio.Semaphore(self.limits.measurements)
        self._t0 = 0.0  # elapsed time, which also counts while the computer sleeps
        self._recorded_until: float | None = None
        # The tasks of the steps, and apart from them the one that ends the take, since it closes the others.
        self._scope = TaskScope(f"take {name}", on_failure=self._task_failed)
        self._ending_scope = TaskScope(f"end of take {name}", on_failure=self._task_failed)
        self._step: asyncio.Task[None] | None = None
        self._reference_task: asyncio.Task[None] | None = None
        self._clocks_task: asyncio.Task[None] | None = None
        self._confirmations: dict[str, asyncio.Task[None]] = {}
        self._early_downloads: dict[str, asyncio.Task[None]] = {}
        self._ending: asyncio.Task[None] | None = None
        self._ending_timeout = asyncio.timeout(None)
        self._cleanup_timeout = asyncio.timeout(None)
        self._aborted = False

    # -- properties -----------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Name of the take and its directory; `arm` may append a number to make it new."""
        return self._directory.name

    @property
    def directory(self) -> Path:
        """Directory of the take.

        Raises:
            StateError: The take has not been armed, so the directory does not exist.
        """
        if not self._directory.exists:
            raise StateError(f"take {self.name} has no directory before it is armed")
        return self._directory.path

    @property
    def manifest(self) -> Manifest:
        """Copy of the manifest as of now."""
        return self._manifest.model_copy(deep=True)

    @property
    def awaited(self) -> tuple[str, ...]:
        """Ids of the cameras that have not answered the start yet."""
        return tuple(key for key, each in self._participants.items() if each.is_answer_pending)

    @property
    def ok(self) -> bool:
        """Return whether the take has ended and every camera's part is complete."""
        return self._manifest.outcome is Outcome.COMPLETE

    @staticmethod
    async def resume(
        directory: str | Path,
        session: Connector,
        *,
        credentials: Credentials | None = None,
        hosts: Hosts = (),
        limits: TakeLimits | None = None,
        verify: FileCheck | None = None,
    ) -> Manifest:
        """Finish a take whose process died; arguments, result and errors as of `resume_take`."""
        return await resume_take(
            directory, session, credentials=credentials, hosts=hosts, limits=limits, verify=verify
        )

    def __repr__(self) -> str:
        return f"<Take {self.name} {self.state.value}, cameras: {len(self._participants)}>"

    # -- the steps ------------------------------------------------------------------------------

    async def run(self, *, duration: float, start_in: float = 3.0) -> Self:
        """Arm, start together, record, stop and collect.

        The take ends early when no camera could be armed or started. Failures of cameras are not raised;
        see `ok` and `manifest`. If T0 passes while the computer sleeps or the loop is blocked, the starts
        leave late, or not at all if the take would be over; it still ends ``duration`` seconds after T0.

        Args:
            duration: Seconds from T0 to the stop.
            start_in: Seconds from the moment all are armed to T0.

        Raises:
            UsageError: ``duration`` or ``start_in`` is negative or not finite.
            StateError: The take has been used before.
            StorageError: The directory or the manifest cannot be written.
        """
        _check_seconds("duration", duration)
        _check_seconds("start_in", start_in)
        await self.arm(duration=duration)
        participants = self._participants.values()
        if not any(each.armed is not None for each in participants):
            await self._end(None)
            return self
        grace = min(duration, self.limits.start_answer_grace)
        await self._run_step("start", TakeState.STARTING, self._start_cameras(start_in, grace, duration))
        if any(each.may_record for each in participants):
            await self._run_step("record", None, sleep_until(self._t0 + duration))
        await self.stop()
        await self.collect()
        return self

    async def arm(self, *, duration: float | None = None) -> None:
        """Make the directory, measure the clocks, and arm all cameras concurrently.

        Args:
            duration: Intended length in seconds; a hint for the cameras.

        Raises:
            StateError: Not the first step.
            StorageError: The directory or the manifest cannot be written.
        """
        await self._run_step("arm", TakeState.ARMING, self._arm_cameras(duration))

    async def start(self, *, start_in: float = 3.0) -> None:
        """Start every armed camera at T0, and return once T0 has passed and the cameras have answered.

        Cameras that start by their own clock receive the command now, with T0 in it; all others receive it
        at T0. Answers that take longer than `TakeLimits.start_answer_grace` past T0 are awaited by `stop`.

        Args:
            start_in: Seconds from now to T0; 3 gives every command time to arrive.

        Raises:
            UsageError: ``start_in`` is negative or not finite.
            StateError: Not armed, or started before.
        """
        _check_seconds("start_in", start_in)
        work = self._start_cameras(start_in, self.limits.start_answer_grace, None)
        await self._run_step("start", TakeState.STARTING, work)

    async def stop(self) -> None:
        """Stop all cameras concurrently, also those that answer the start only now.

        Raises:
            StateError: Not started, or stopped before.
        """
        await self._run_step("stop", TakeState.STOPPING, self._stop_cameras(None))

    async def collect(self) -> None:
        """Download all files, write the final manifest, and end the take.

        Raises:
            StateError: Not stopped.
            StorageError: The manifest cannot be written.
        """
        await self._run_step("collect", TakeState.COLLECTING, self._collect_files())
        await self._end(None)

    async def aclose(self, *, timeout: float | None = None) -> None:
        """End the take now, as a cancellation does; harmless when it has ended.

        Args:
            timeout: Seconds instead of `TakeLimits.cancel_timeout`.

        Raises:
            StorageError: The manifest cannot be written.
        """
        if self._ending is None or not self._ending.done():
            await self._end(Outcome.CANCELLED, timeout)

    def abort(self) -> Awaitable[None]:
        """End the take at once; harmless when it has ended.

        No further request is sent to a camera and no file is downloaded. What was given up is recorded in the
        manifest's errors. If a camera may still record, the take's ``outcome`` stays ``running`` and its
        journal is kept, so that `resume` stops that camera.

        Returns:
            An awaitable for the end, which may be ignored. Awaited, it may raise `StorageError`: the manifest
            cannot be written.
        """
        self._aborted = True
        with suppress(RuntimeError):  # the clean-up has not begun, or is over
            self._cleanup_timeout.reschedule(asyncio.get_running_loop().time() + _ABORT_CLEANUP_TIMEOUT)
        self._shorten_ending(0.0)
        return self._ending_scope.spawn(self.aclose(timeout=0.0), name="abort")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _run_step(self, name: str, state: TakeState | None, work: Coroutine[Any, Any, None]) -> None:
        """Run a step in its own task, which survives a cancellation of the caller.

        So the ending can wait for a transfer in flight, or for the answer to a stop, instead of repeating it.
        """
        try:
            if self._step is not None and not self._step.done():
                raise StateError(f"take {self.name} is busy: {self.state.value}")
            if state is not None:
                self._move_to(state)
            step = self._step = self._scope.spawn(work, name=name)
        except StateError:
            work.close()
            raise
        try:
            await asyncio.wait({step})
        except asyncio.CancelledError:
            await self._end_quietly(Outcome.CANCELLED)
            raise
        if step.cancelled():
            if self._ending is not None:
                await self._end_quietly(Outcome.CANCELLED)
            raise StateError(f"take {self.name} was ended during {name}")
        error = step.exception()
        if error is not None:
            await self._end_quietly(Outcome.FAILED)
            raise error

    def _move_to(self, state: TakeState) -> None:
        if state not in TRANSITIONS[self.state]:
            raise StateError(f"take {self.name} is {self.state.value} and cannot go on to {state.value}")
        _LOG.debug("take %s: %s -> %s", self.name, self.state.value, state.value)
        self.state = state
        self._manifest.phase = state.value
        self._emit(TakePhaseChanged(take=self.name, phase=state.value))

    async def _for_each(self, step: str, jobs: Mapping[str, Coroutine[Any, Any, None]]) -> None:
        """Run one job per camera concurrently; an exception fails that camera's step."""
        for key, result in (await self._scope.gather(jobs, name=step)).items():
            if isinstance(result, Exception):
                self._participants[key].fail(step, result)

    # -- arming ---------------------------------------------------------------------------------

    async def _arm_cameras(self, duration: float | None) -> None:
        self._clock.pin()
        self._manifest.created_at = Moment.of(unix_now())
        self._manifest.duration = duration
        self._manifest.asynccam = await on_disk(version, "asynccam")
        await self._directory.create([record.directory for record in self._manifest.cameras])
        await self._store.create()
        asking = self._scope.spawn(self._reference.ask(self.limits.clock_timeout), name="time server")
        # Before arming: a device that serves one connection at a time cannot answer beside an armed start.
        clocks = {key: each.measure_clock(self._slots) for key, each in self._participants.items()}
        await self._for_each("clock", clocks)
        await asyncio.wait({asking})
        arming = {key: self._arm_camera(each, duration) for key, each in self._participants.items()}
        await self._for_each("arm", arming)
        if self._reference.name is not None:
            self._reference_task = self._scope.spawn(self._follow_reference(), name="time server")
        armed = [key for key, each in self._participants.items() if each.armed is not None]
        await self._store.note("armed", cameras=armed)
        self._move_to(TakeState.ARMED)
        await self._store.save_or_record_error()

    async def _arm_camera(self, participant: Participant, duration: float | None) -> None:
        await participant.arm(self._directory.path / participant.record.directory, duration)

    # -- starting -------------------------------------------------------------------------------

    async def _start_cameras(self, start_in: float, answer_grace: float, last_start: float | None) -> None:
        """Release every armed camera for T0, and wait ``answer_grace`` seconds past T0 for the answers.

        If T0 was missed, cameras without a schedule are started late, unless ``last_start`` seconds from T0
        have passed by then.
        """
        armed = [each for each in self._participants.values() if each.armed is not None]
        # On disk before a camera receives a start: a resumed take stops all that may have.
        ids = [each.camera.id for each in armed]
        await self._store.note("starting", cameras=ids, start_in=start_in)
        await self._store.save_or_record_error()
        scheduled = [each for each in armed if each.scheduled]
        immediate = [each for each in armed if not each.scheduled]
        self._t0 = WALL_CLOCK.elapsed() + start_in
        local_t0 = WALL_CLOCK.at(self._t0)
        t0 = self._reference.at_computer_time(local_t0)
        for participant in scheduled:
            participant.release(t0)
        self._manifest.start = StartRecord(
            t0=Moment.of(t0),
            t0_local=Moment.of(local_t0),
            source="system" if self._reference.clock is None else "ntp",
            server=self._reference.name,
            clock=self._reference.clock,
            start_in=start_in,
            tolerance=self.limits.start_tolerance,
        )
        await self._spawn_answers(scheduled)
        saving = self._scope.spawn(self._save_release(), name="save")
        await sleep_until(self._t0)
        late = WALL_CLOCK.elapsed() - self._t0
        missed = last_start is not None and late >= max(last_start, self.limits.start_tolerance)
        if not missed:
            for participant in immediate:
                participant.release(None)
        self._clock.check()  # finds the pause that made the starts late, if any
        if missed:
            self._record_unsent_starts(immediate)
        else:
            await self._spawn_answers(immediate)
        self._move_to(TakeState.RECORDING)
        self._clocks_task = self._scope.spawn(self._follow_camera_clocks(), name="clocks")
        answers = [each.answer_task for each in armed if each.answer_task and not each.answer_task.done()]
        if answers:
            await asyncio.wait(answers, timeout=max(0.0, self._t0 + answer_grace - WALL_CLOCK.elapsed()))
        await asyncio.wait({saving})
        await self._store.save_or_record_error()

    async def _save_release(self) -> None:
        start = self._manifest.start
        await self._store.note("released", start=None if start is None else start.model_dump(mode="json"))
        await self._store.save_or_record_error()

    async def _spawn_answers(self, participants: Sequence[Participant]) -> None:
        """Await the answer of each camera in a task of its own; a hundred of them start in several turns."""
        remaining = iter(participants)
        try:
            for each in remaining:
                self._spawn_answer(each)
                await in_turn()
        finally:
            for each in remaining:  # cancelled: who ends the take waits for the answers
                self._spawn_answer(each)

    def _spawn_answer(self, each: Participant) -> None:
        each.answer_task = self._scope.spawn(self._await_answer(each), name=f"accept[{each.camera.id}]")

    async def _await_answer(self, participant: Participant) -> None:
        participant.record_lateness(self._t0, self.limits.start_tolerance, self._delay_cause)
        await participant.await_answer()
        await self._journal_camera(participant)
        if participant.can_report_recording:
            key = participant.camera.id
            self._confirmations[key] = self._scope.spawn(
                self._confirm_recording(participant), name=f"watch[{key}]"
            )

    async def _confirm_recording(self, participant: Participant) -> None:
        await participant.confirm_recording(self._t0, self._slots)
        await self._store.note("begun", **participant.journal_facts())

    def _record_unsent_starts(self, participants: Sequence[Participant]) -> None:
        now = WALL_CLOCK.elapsed()
        for each in participants:
            cause = self._delay_cause(now)
            text = f"its start was not sent: {now - self._t0:.2f} s after T0 the take was over{cause}"
            each.fail("start", TimeoutError(text))

    def _delay_cause(self, moment: float) -> str:
        """Return the pause at T0 that delayed what happened at a moment, to append to an error."""
        cause = self._clock.pause_at(WALL_CLOCK.at(self._t0))
        return f"; {cause}" if cause and moment > self._t0 else ""

    # -- clocks ---------------------------------------------------------------------------------

    @property
    def _has_reference(self) -> bool:
        """Return whether T0 is on the scale of a time server, or may still be."""
        start = self._manifest.start
        return self._reference.name is not None if start is None else start.source == "ntp"

    async def _follow_reference(self) -> None:
        """Measure the time server's clock periodically, until cancelled."""
        while self._has_reference:
            await asyncio.sleep(self.limits.clock_interval)
            ahead = self._t0 - WALL_CLOCK.elapsed()
            if 0 < ahead < _QUIET_BEFORE_T0:
                await asyncio.sleep(ahead)
            await self._reference.ask_again(self.limits.clock_timeout)

    async def _follow_camera_clocks(self) -> None:
        """Measure the clocks of recording cameras periodically, a few at a time, until cancelled."""
        measured = [each for each in self._participants.values() if each.record.clock is not None]
        while measured:
            await asyncio.sleep(self.limits.clock_interval)
            for index in range(0, len(measured), self.limits.measurements):
                batch = measured[index : index + self.limits.measurements]
                jobs = {each.camera.id: each.measure_clock_while_recording(self._slots) for each in batch}
                await self._for_each("clock", jobs)

    # -- stopping -------------------------------------------------------------------------------

    async def _stop_cameras(self, answer_timeout: float | None) -> None:
        """Stop every camera that may record, then measure the clocks again, and save.

        Files of cameras that have stopped are downloaded while others are still awaited. A take that ends
        early has an ``answer_timeout`` for its starts, see `Participant.stop`, and does not measure clocks.
        """
        self._clock.check()
        if self._manifest.start is not None:
            lasted = WALL_CLOCK.elapsed() - self._t0
            planned = lasted if self._manifest.duration is None else min(lasted, self._manifest.duration)
            self._recorded_until = self._manifest.start.t0_local.unix + planned
        await self._store.note("stopping")
        measuring = {task for task in (self._clocks_task, self._reference_task) if task is not None}
        for task in measuring:
            task.cancel()
        if measuring:
            await asyncio.wait(measuring)
        to_stop = {key: each for key, each in self._participants.items() if each.may_record}
        stopped: asyncio.Queue[tuple[float, Participant]] = asyncio.Queue()
        stops = {key: self._stop_camera(each, answer_timeout, stopped) for key, each in to_stop.items()}
        downloads = self._download_early(stopped, measure=answer_timeout is None)
        downloading = self._scope.spawn(downloads, name="early downloads")
        try:
            await self._for_each("stop", stops)
        finally:
            downloading.cancel()
            await asyncio.wait({downloading})
        if answer_timeout is None:
            await self._measure_clocks_again()
        self._move_to(TakeState.STOPPED)
        await self._store.save_or_record_error()

    async def _stop_camera(
        self,
        participant: Participant,
        answer_timeout: float | None,
        stopped: "asyncio.Queue[tuple[float, Participant]]",
    ) -> None:
        """Stop one camera, and add it to those that have ``stopped``, with the moment of the loop's time."""
        confirmation = self._confirmations.pop(participant.camera.id, None)
        if confirmation is not None:  # no request may be in flight beside the stop
            confirmation.cancel()
            await asyncio.wait({confirmation})
        await participant.stop(answer_timeout=answer_timeout, t0=self._t0)
        await self._journal_camera(participant)
        if participant.files:
            stopped.put_nowait((asyncio.get_running_loop().time(), participant))

    async def _download_early(
        self, stopped: "asyncio.Queue[tuple[float, Participant]]", *, measure: bool
    ) -> None:
        """Download the files of cameras that have stopped while others take long to stop, until cancelled."""
        while True:
            moment, participant = await stopped.get()
            due = moment + self.limits.start_answer_grace
            await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
            key = participant.camera.id
            job = self._download_stopped(participant, measure=measure)
            self._early_downloads[key] = self._scope.spawn(job, name=f"collect[{key}]")

    async def _measure_clocks_again(self) -> None:
        if self._has_reference:
            asking = self._reference.ask_again(self.limits.clock_timeout)
            self._reference_task = self._scope.spawn(asking, name="time server")
        jobs = {
            key: each.measure_clock_again(self._slots)
            for key, each in self._participants.items()
            if each.record.stopped_at is not None and key not in self._early_downloads
        }
        await self._for_each("clock", jobs)

    # -- collecting -----------------------------------------------------------------------------

    async def _collect_files(self) -> None:
        await self._store.note("collecting")
        jobs = {key: self._collect(key, each) for key, each in self._participants.items() if each.files}
        await self._for_each("collect", jobs)
        if self._reference_task is not None:
            await asyncio.wait({self._reference_task})

    async def _collect(self, key: str, participant: Participant) -> None:
        early = self._early_downloads.get(key)
        await (self._collector.collect(participant) if early is None else early)

    async def _download_stopped(self, participant: Participant, *, measure: bool) -> None:
        if measure and participant.record.stopped_at is not None:
            await participant.measure_clock_again(self._slots)
        await self._collector.collect(participant)

    async def _file_done(self, participant: Participant) -> None:
        await self._journal_camera(participant)
        await self._store.save_now_and_then()

    # -- the end --------------------------------------------------------------------------------

    async def _end_quietly(self, outcome: Outcome) -> None:
        """End the take; record, but do not raise, a manifest write error (the caller has another one)."""
        try:
            await self._end(outcome)
        except StorageError as error:
            self._store.record_error("manifest", error)

    async def _end(self, outcome: Outcome | None, timeout: float | None = None) -> None:
        """End the take once; every caller waits for that end, however often it is cancelled.

        Without an outcome, the take is judged by its cameras' parts.
        """
        if self._ending is None:
            work = self._end_within(self.limits.cancel_timeout if timeout is None else timeout, outcome)
            self._ending = self._ending_scope.spawn(work, name="end")
        elif timeout is not None:
            self._shorten_ending(timeout)
        await see_done({self._ending})
        if not self._ending.cancelled():
            self._ending.result()

    def _shorten_ending(self, timeout: float) -> None:
        """Let the ending take no more than ``timeout`` seconds from now."""
        deadline = asyncio.get_running_loop().time() + timeout
        current = self._ending_timeout.when()
        if current is not None and deadline < current:
            with suppress(RuntimeError):  # it is over
                self._ending_timeout.reschedule(deadline)

    async def _end_within(self, timeout: float, outcome: Outcome | None) -> None:
        """Stop what was started and download what exists, as far as the time allows; then close the take."""
        stopped_in_order = False
        try:
            async with asyncio.timeout(timeout) as self._ending_timeout:
                await self._end_step()
                if self.state in (TakeState.STARTING, TakeState.RECORDING):
                    self._move_to(TakeState.STOPPING)
                    await self._stop_cameras(self.limits.start_answer_grace)
                if self.state is TakeState.STOPPED:
                    self._move_to(TakeState.COLLECTING)
                    await self._collect_files()
            stopped_in_order = self.state not in _MAY_RECORD
        except builtins.TimeoutError:
            if not self._ending_timeout.expired():
                raise
            text = f"the take could not be ended in order within {timeout:g} s"
            if self._aborted:
                text = "the take was aborted before it could be ended in order"
            self._store.record_error("end", TimeoutError(text))
        finally:
            await finish(self._close(outcome, stopped_in_order))

    async def _end_step(self) -> None:
        """Wait for the running step; cancel it first if stopping and collecting do not need it."""
        if self._step is not None and not self._step.done():
            if self.state not in (TakeState.STOPPING, TakeState.STOPPED, TakeState.COLLECTING):
                self._step.cancel()
            await asyncio.wait({self._step})

    async def _close(self, outcome: Outcome | None, stopped_in_order: bool) -> None:
        """Release everything, judge the outcome, and write the final manifest."""
        try:
            armed = {key: each for key, each in self._participants.items() if each.armed is not None}
            disarming = {key: each.disarm() for key, each in armed.items()}
            await self._clean_up(self._for_each("disarm", disarming))
            try:
                await self._scope.aclose()
            except TimeoutError as error:
                self._store.record_error("end", error)
            if self._directory.exists:
                await self._clean_up(self._collect_unlisted_files())
            self._clock.check()
            await self._judge(outcome)
            still_recording = await self._record_still_recording(stopped_in_order)
            phase = self._manifest.phase
            self._move_to(TakeState.DONE)
            if self._manifest.outcome is Outcome.RUNNING:
                self._manifest.phase = phase  # `resume` goes on from there
            await self._store.close(keep_journal=still_recording)
        finally:
            self._clock.release()

    async def _clean_up(self, work: Coroutine[Any, Any, None]) -> None:
        """Do a part of the clean-up; an aborted take does as much as its time allows."""
        try:
            timeout = _ABORT_CLEANUP_TIMEOUT if self._aborted else None
            async with asyncio.timeout(timeout) as self._cleanup_timeout:
                await work
        except builtins.TimeoutError:
            if not self._cleanup_timeout.expired():
                raise

    async def _collect_unlisted_files(self) -> None:
        for participant in self._participants.values():
            await self._collector.collect_unlisted(participant)

    async def _judge(self, outcome: Outcome | None) -> None:
        unfinished = Outcome.CANCELLED if outcome is Outcome.CANCELLED else Outcome.FAILED
        for record in self._manifest.cameras:
            await in_turn()
            infer_first_frame(record, self._manifest)
            note_sleep(record, self._manifest.pauses)
            judge_coverage(record, self._manifest, self._recorded_until)
            record.outcome = outcome_of(record, unfinished, late=self._manifest.started_late(record))
        self._manifest.outcome = outcome or outcome_of_all(self._manifest)

    async def _record_still_recording(self, stopped_in_order: bool) -> bool:
        """Record which cameras may still record, and return whether any does.

        Unless the take was stopped in order, it then stays ``running``, for `resume`.
        """
        recording = [each for each in self._participants.values() if each.may_still_record]
        for participant in recording:
            participant.record_not_stopped()
            if not stopped_in_order:
                self._manifest.outcome = Outcome.RUNNING
            await self._journal_camera(participant)
        return bool(recording)

    # -- the record of what happened ------------------------------------------------------------

    def _task_failed(self, task: str, error: Exception) -> None:
        self._store.record_error(task.rpartition(":")[2], error)

    async def _journal_camera(self, participant: Participant) -> None:
        await self._store.note("camera", **participant.journal_facts())

    def _journal_clock(self) -> None:
        """Write a clock step or a pause to the journal; at the very end it is in the manifest only."""
        with suppress(StateError):  # the scope is closed
            self._scope.spawn(self._store.note("clock", **self._clock.journal_facts()), name="clock")

    def _update_reference(self) -> None:
        """Copy what was measured of the time server's clock to the record of T0."""
        if self._manifest.start is not None and self._manifest.start.source == "ntp":
            self._manifest.start.clock = self._reference.clock
            self._journal_clock()


def _new_manifest(
    take: str, cameras: Sequence[Camera], labels: Mapping[str, str], missing: Sequence[MissingRecord]
) -> Manifest:
    # A missing camera keeps its name, so that no other camera gets that directory.
    names = {each.id or each.address: each.label or each.name for each in missing if each.label or each.name}
    infos = [camera.info for camera in cameras]
    names |= {info.id: labels.get(info.id) or info.name or info.serial for info in infos}
    directories = camera_directories(names)
    now = Moment.of(unix_now())
    return Manifest(
        take=take,
        phase="new",
        created_at=now,
        written_at=now,
        cameras=[
            _new_record(info, camera, directories[info.id])
            for info, camera in zip(infos, cameras, strict=True)
        ],
        missing=list(missing),
    )


def _new_record(info: CameraInfo, camera: Camera, directory: str) -> CameraRecord:
    return CameraRecord(
        id=info.id,
        name=info.name,
        system=info.system,
        serial=info.serial,
        model=info.model,
        address=info.address,
        identity=dict(info.identity),
        directory=directory,
        features=sorted(key.name for key in camera.features),
    )


def _check_seconds(name: str, seconds: float) -> None:
    if not (math.isfinite(seconds) and seconds >= 0):
        raise UsageError(f"{name} must be a number of seconds >= 0, not {seconds}")
