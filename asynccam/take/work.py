"""The work of a take's steps, and the manifest that keeps up with it."""

import asyncio
import builtins
import math
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from types import MappingProxyType
from typing import Any, Final

from asynccam.errors import RemoteProtocolError, StateError, StorageError, TimeoutError
from asynccam.model.camera import Camera
from asynccam.model.manifest import (
    CameraRecord,
    Manifest,
    MissingRecord,
    Moment,
    Outcome,
    StartRecord,
)
from asynccam.runtime.disk import on_disk
from asynccam.runtime.tasks import TaskScope
from asynccam.runtime.timing import sleep_until
from asynccam.take.clocks import Reference, TakeClock, TimeServer, note_sleep
from asynccam.take.collector import Collector, FileCheck
from asynccam.take.journal import JOURNAL_VERSION, Journal
from asynccam.take.limits import TakeLimits
from asynccam.take.manifest_store import ManifestStore, camera_directories
from asynccam.take.outcome import judge_coverage, outcome_of, outcome_of_all
from asynccam.take.participant import Emit, Participant, error_record
from asynccam.take.timing import infer_first_frames
from asynccam.wall_clock import WALL_CLOCK, unix_now

_SAVE_EVERY: Final = 1.0
"""Seconds between manifests while files arrive."""
_QUIET_BEFORE_T0: Final = 2.0
"""Seconds before T0 in which the time server is not asked: the starts are to leave on time."""
_HURRY: Final = 1.0
"""Seconds that each part of the clean-up may take once the take is aborted."""


class TakeWork:
    """What each step of a take does; which step may follow which is not decided here.

    Args:
        cameras: The cameras, each once.
        folder: Where files and manifest go.
        limits: Bounds of every wait.
        time_server: Reference for T0, or None for this computer's clock.
        verify: Looks into each file that arrived, or None.
        emit: Where events go.
        labels: What a person calls the cameras, by id.
        missing: Who was to take part and is not there.

    Attributes:
        manifest: What happened so far.
        members: The cameras' parts, by camera id.
        scope: Owns every task but the one that ends the take.
        t0: T0 by elapsed time, which counts while the computer sleeps, once `start` has set it.
    """

    def __init__(
        self,
        cameras: Sequence[Camera],
        folder: ManifestStore,
        limits: TakeLimits,
        time_server: TimeServer | None,
        verify: FileCheck | None,
        emit: Emit,
        labels: Mapping[str, str] = MappingProxyType({}),
        missing: Sequence[MissingRecord] = (),
    ) -> None:
        # Those that are missing keep their names, so that nobody else has them in this take.
        words = {one.id or one.address: one.label or one.name for one in missing if one.label or one.name}
        words |= {
            camera.id: labels.get(camera.id) or camera.info.name or camera.info.serial for camera in cameras
        }
        directories = camera_directories(words)
        records = [_describe(camera, directories[camera.id]) for camera in cameras]
        now = Moment.of(unix_now())
        self.manifest = Manifest(
            take=folder.name,
            phase="new",
            created_at=now,
            written_at=now,
            cameras=records,
            missing=list(missing),
        )
        self._reference = Reference(time_server, self._note_reference, self._note_contradiction)
        self.members = {
            camera.id: Participant(camera, record, limits, emit, self._reference.computer_time)
            for camera, record in zip(cameras, records, strict=True)
        }
        self.scope = TaskScope(f"take {folder.name}", on_failure=self.failed)
        self.t0 = 0.0
        self._until: float | None = None
        self._folder = folder
        self._limits = limits
        self._asking: asyncio.Task[None] | None = None
        self._collector = Collector(folder, limits, emit, verify, self._arrived)
        self._clock = TakeClock(self.manifest, emit, self._note_clock)
        self._saved_at = -math.inf
        self._journal: Journal | None = None
        self._slots = asyncio.Semaphore(limits.measurements)
        self._watching: dict[str, asyncio.Task[None]] = {}
        self._clocks: asyncio.Task[None] | None = None
        self._tidying = asyncio.timeout(None)
        self._hurried = False
        self._unstopped = False
        self._early: dict[str, asyncio.Task[None]] = {}

    # -- the steps ------------------------------------------------------------------------------

    async def arm(self, duration: float | None) -> None:
        """Make the folder, measure clocks, arm the cameras.

        Raises:
            StorageError: The folder, the journal or the first manifest cannot be written.
        """
        self._clock.pin()
        self.manifest.created_at = Moment.of(unix_now())
        self.manifest.duration = duration
        self.manifest.asynccam = await on_disk(version, "asynccam")
        await self._folder.create([member.record.directory for member in self.members.values()])
        self._journal = Journal(self._folder.root)
        await self._journal.create()
        await self._journal.write(
            "created", version=JOURNAL_VERSION, manifest=self.manifest.model_dump(mode="json")
        )
        await self.save()
        reference = self.scope.spawn(self._reference.ask(self._limits.clock_timeout), name="time server")
        # Before arming: a device that serves one connection at a time could not answer beside an armed one.
        measuring = {key: member.measure_clock(self._slots) for key, member in self.members.items()}
        await self._each("clock", measuring)
        await asyncio.wait({reference})
        arming = {
            key: member.arm(self._folder.path / member.record.directory, duration)
            for key, member in self.members.items()
        }
        await self._each("arm", arming)
        if self._reference.name is not None:
            self._asking = self.scope.spawn(self._follow_reference(), name="time server")
        armed = [key for key, member in self.members.items() if member.armed is not None]
        await self._note("armed", cameras=armed)

    async def start(
        self, start_in: float, settle: float, on_t0: Callable[[], None], *, until: float | None = None
    ) -> None:
        """Release every armed camera for T0, and wait a while for the answers.

        Where T0 was missed, cameras that do not start by their own clock are started all the same, late,
        unless the take is over by then.

        Args:
            start_in: Seconds from now to T0.
            settle: Seconds past T0 to wait for answers.
            on_t0: Called when every start has been sent, which is T0.
            until: Seconds from T0 after which no start is sent any more, or None for no such moment.
        """
        armed = [member for member in self.members.values() if member.armed is not None]
        # On disk before any camera hears of it.
        await self._note("starting", cameras=[member.camera.id for member in armed], start_in=start_in)
        await self.save_if_possible()
        scheduled = [member for member in armed if member.scheduled]
        others = [member for member in armed if not member.scheduled]
        self.t0 = WALL_CLOCK.elapsed() + start_in
        computer_t0 = WALL_CLOCK.at(self.t0)
        t0 = self._reference.at_computer_time(computer_t0)
        for member in scheduled:
            member.release(t0)
        self.manifest.start = self._start_record(t0, computer_t0, start_in)
        self._await_answers(scheduled)
        saving = self.scope.spawn(self._note_release(), name="save")
        await sleep_until(self.t0)
        late = WALL_CLOCK.elapsed() - self.t0
        missed = until is not None and late >= max(until, self._limits.start_tolerance)
        if not missed:
            for member in others:
                member.release(None)
        self._clock.check()  # why they are late, if they are
        if missed:
            self._give_up_starts(others)
        else:
            self._await_answers(others)
        on_t0()
        self._clocks = self.scope.spawn(self._measure_clocks(), name="clocks")
        answers = {member.accepting for member in armed if member.accepting is not None}
        if answers:
            await asyncio.wait(answers, timeout=max(0.0, self.t0 + settle - WALL_CLOCK.elapsed()))
        await asyncio.wait({saving})

    async def stop(self, patience: float | None) -> None:
        """Stop every camera that may record; ``patience`` as for `Participant.stop`.

        Files of those that have stopped are downloaded while others are still waited for.
        """
        self._clock.check()
        if self.manifest.start is not None:
            lasted = WALL_CLOCK.elapsed() - self.t0
            planned = lasted if self.manifest.duration is None else min(lasted, self.manifest.duration)
            self._until = self.manifest.start.t0_local.unix + planned
        await self._note("stopping")
        measuring = {one for one in (self._clocks, self._asking) if one is not None}
        for task in measuring:
            task.cancel()
        if measuring:
            await asyncio.wait(measuring)
        to_stop = {key: member for key, member in self.members.items() if member.may_record}
        waiting = _Waiting(len(to_stop))
        stops = {key: self._stop(member, patience, waiting) for key, member in to_stop.items()}
        await self._each("stop", stops)
        if patience is None:  # a take that is ended early has no time for it
            if self._has_reference:
                asking = self._reference.ask_again(self._limits.clock_timeout)
                self._asking = self.scope.spawn(asking, name="time server")
            again = {
                key: member.measure_clock_again(self._slots)
                for key, member in self.members.items()
                if member.record.stopped_at is not None and key not in self._early
            }
            await self._each("clock", again)

    async def collect(self) -> None:
        """Bring every file home."""
        await self._note("collecting")
        collecting = {key: self._collect(key, member) for key, member in self.members.items() if member.files}
        await self._each("collect", collecting)
        if self._asking is not None:
            await asyncio.wait({self._asking})

    def hurry(self) -> None:
        """Have `finish` take no longer than it must."""
        self._hurried = True
        with suppress(RuntimeError):  # it has not begun, or is over
            self._tidying.reschedule(asyncio.get_running_loop().time() + _HURRY)

    async def finish(self, outcome: Outcome | None, *, in_order: bool) -> None:
        """Let go of everything and decide how it ended.

        Args:
            outcome: How the take ended, or None to judge by what came home.
            in_order: Whether every camera that could be stopped has been. If not, and a camera may record
                still, the outcome stays ``running``.
        """
        disarming = {key: member.disarm() for key, member in self.members.items()}
        await self._tidy(self._each("disarm", disarming))
        try:
            await self.scope.aclose()
        except TimeoutError as error:
            self.failed("end", error)
        if self._folder.exists:
            await self._tidy(self._take_in_left())
        self._clock.check()
        unfinished = Outcome.CANCELLED if outcome is Outcome.CANCELLED else Outcome.FAILED
        infer_first_frames(self.manifest)
        for member in self.members.values():
            note_sleep(member.record, self.manifest.pauses)
            judge_coverage(member.record, self.manifest, self._until)
            late = self.manifest.started_late(member.record)
            member.record.outcome = outcome_of(member.record, unfinished, late=late)
        self.manifest.outcome = outcome or outcome_of_all(self.manifest)
        await self._leave_to_resume(in_order)

    async def _tidy(self, work: Coroutine[Any, Any, None]) -> None:
        """Do a part of the clean-up, or as much of it as an aborted take has time for."""
        try:
            async with asyncio.timeout(_HURRY if self._hurried else None) as self._tidying:
                await work
        except builtins.TimeoutError:
            if not self._tidying.expired():
                raise

    async def _take_in_left(self) -> None:
        for member in self.members.values():
            await self._collector.take_in_left(member)

    async def _leave_to_resume(self, in_order: bool) -> None:
        """Say which cameras may record still, in the manifest and in the journal."""
        left = [member for member in self.members.values() if member.may_still_record]
        for member in left:
            member.note_not_stopped()
            if not in_order:
                self.manifest.outcome = Outcome.RUNNING
            await self._note_camera(member)
        self._unstopped = bool(left)

    # -- the manifest ---------------------------------------------------------------------------

    def failed(self, task: str, error: Exception) -> None:
        """Put on record an error that is no single camera's."""
        self.manifest.errors.append(error_record(task.rpartition(":")[2], error))

    async def save(self) -> None:
        """Write the manifest, if the take has a folder.

        Raises:
            StorageError: The disk refuses.
        """
        if self._folder.exists:
            self._saved_at = time.monotonic()
            infer_first_frames(self.manifest)
            self.manifest.take = self._folder.name
            self.manifest.written_at = Moment.of(unix_now())
            self.manifest.journal_lines = None if self._journal is None else self._journal.lines
            await self._folder.write_manifest(self.manifest.to_bytes())

    async def save_if_possible(self) -> None:
        """Write the manifest between steps: a full disk is recorded, and cameras that run are not stopped."""
        try:
            await self.save()
        except StorageError as error:
            self.failed("manifest", error)

    async def save_for_good(self) -> None:
        """Write the manifest of a take that has ended, and let go of its journal.

        The journal is removed, unless a camera may record still.

        Raises:
            StorageError: The disk refuses; the journal stays.
        """
        saved = False
        try:
            await self.save()
            saved = True
        finally:
            if self._journal is not None:
                await self._journal.close(remove=saved and not self._unstopped)

    def let_clock_go(self) -> None:
        """Write no further wall time on the take's scale."""
        self._clock.release()

    def _note_clock(self) -> None:
        """Write a step or a pause to the journal; one noticed at the very end is in the manifest only."""
        if self._journal is not None and self._journal.is_open:
            with suppress(StateError):
                self.scope.spawn(self._note("clock", **clock_facts(self.manifest)), name="clock")

    def _note_reference(self) -> None:
        """Keep T0's record up with the time server's clock."""
        if self.manifest.start is not None and self.manifest.start.source == "ntp":
            self.manifest.start.clock = self._reference.clock
            self._note_clock()

    def _note_contradiction(self, error: RemoteProtocolError) -> None:
        self.failed("time server", error)

    async def _note(self, event: str, **facts: object) -> None:
        """Write to the journal; a full disk is recorded, and cameras that run are not stopped."""
        if self._journal is not None and self._journal.is_open:
            try:
                await self._journal.write(event, **facts)
            except StorageError as error:
                self.failed("journal", error)

    async def _note_camera(self, member: Participant) -> None:
        await self._note("camera", **member.state())

    async def _note_release(self) -> None:
        start = self.manifest.start
        await self._note("released", start=None if start is None else start.model_dump(mode="json"))
        await self.save_if_possible()

    def _give_up_starts(self, members: Sequence[Participant]) -> None:
        """Put it on record that starts were not sent, because the take was over when they could have been."""
        now = WALL_CLOCK.elapsed()
        for member in members:
            because = self._why_late(now)
            words = f"its start was not sent: {now - self.t0:.2f} s after T0 the take was over{because}"
            member.fail("start", TimeoutError(words))

    def _why_late(self, moment: float) -> str:
        cause = self._clock.pause_at(WALL_CLOCK.at(self.t0))
        return f"; {cause}" if cause and moment > self.t0 else ""

    async def _accept(self, member: Participant) -> None:
        member.judge_start(self.t0, self._limits.start_tolerance, self._why_late)
        await member.accept()
        await self._note_camera(member)
        if member.tells_recording:
            watching = self.scope.spawn(self._watch_begin(member), name=f"watch[{member.camera.id}]")
            self._watching[member.camera.id] = watching

    async def _stop(self, member: Participant, patience: float | None, waiting: "_Waiting") -> None:
        """Stop one camera; its files do not wait for others that take `TakeLimits.settle` longer."""
        try:
            await self._end_watch(member)
            await member.stop(patience=patience, t0=self.t0)
            await self._note_camera(member)
        finally:
            waiting.leave()
        if member.files and not await waiting.all_left(self._limits.start_answer_grace):
            job = self._collect_early(member, measure=patience is None)
            self._early[member.camera.id] = self.scope.spawn(job, name=f"collect[{member.camera.id}]")

    async def _collect_early(self, member: Participant, *, measure: bool) -> None:
        if measure and member.record.stopped_at is not None:
            await member.measure_clock_again(self._slots)
        await self._collector.collect(member)

    async def _collect(self, key: str, member: Participant) -> None:
        early = self._early.get(key)
        await (self._collector.collect(member) if early is None else early)

    async def _arrived(self, member: Participant) -> None:
        await self._note_camera(member)
        if time.monotonic() - self._saved_at >= _SAVE_EVERY:
            await self.save_if_possible()

    # -- helpers --------------------------------------------------------------------------------

    async def _each(self, name: str, jobs: Mapping[str, Coroutine[Any, Any, None]]) -> None:
        for key, result in (await self.scope.gather(jobs, name=name)).items():
            if isinstance(result, Exception):
                self.members[key].fail(name, result)

    @property
    def _has_reference(self) -> bool:
        """Whether T0 is on the scale of a time server, or may still be."""
        start = self.manifest.start
        return self._reference.name is not None if start is None else start.source == "ntp"

    async def _follow_reference(self) -> None:
        """Measure the time server's clock now and then, until cancelled."""
        while self._has_reference:
            await asyncio.sleep(self._limits.clock_interval)
            ahead = self.t0 - WALL_CLOCK.elapsed()
            if 0 < ahead < _QUIET_BEFORE_T0:
                await asyncio.sleep(ahead)
            await self._reference.ask_again(self._limits.clock_timeout)

    def _await_answers(self, members: Sequence[Participant]) -> None:
        for member in members:
            member.accepting = self.scope.spawn(self._accept(member), name=f"accept[{member.camera.id}]")

    async def _watch_begin(self, member: Participant) -> None:
        await member.watch_begin(self.t0, self._slots)
        await self._note("begun", **member.state())

    async def _measure_clocks(self) -> None:
        """Measure the clocks of cameras that record now and then, a few at a time, until cancelled."""
        members = [member for member in self.members.values() if member.record.clock is not None]
        while members:
            await asyncio.sleep(self._limits.clock_interval)
            for index in range(0, len(members), self._limits.measurements):
                some = members[index : index + self._limits.measurements]
                jobs = {one.camera.id: one.measure_clock_between(self._slots) for one in some}
                await self._each("clock", jobs)

    async def _end_watch(self, member: Participant) -> None:
        """Ask the camera nothing more, so that its stop is alone with it."""
        watching = self._watching.pop(member.camera.id, None)
        if watching is not None:
            watching.cancel()
            await asyncio.wait({watching})

    def _start_record(self, t0: float, computer_t0: float, start_in: float) -> StartRecord:
        return StartRecord(
            t0=Moment.of(t0),
            t0_local=Moment.of(computer_t0),
            source="system" if self._reference.clock is None else "ntp",
            server=self._reference.name,
            clock=self._reference.clock,
            start_in=start_in,
            tolerance=self._limits.start_tolerance,
        )


class _Waiting:
    """Lets those who have finished see whether the others do so soon.

    Args:
        count: Those who have not finished.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._over = asyncio.Event()

    def leave(self) -> None:
        """One more has finished."""
        self._count -= 1
        if self._count <= 0:
            self._over.set()

    async def all_left(self, timeout: float) -> bool:
        """Wait until everyone has finished; False if that took longer than the timeout in seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._over.wait()
        except builtins.TimeoutError:
            return False
        return True


def _describe(camera: Camera, directory: str) -> CameraRecord:
    info = camera.info
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


def clock_facts(manifest: Manifest) -> dict[str, Any]:
    """What a journal has to hold of the clocks, as JSON knows it."""
    reference = None if manifest.start is None else manifest.start.clock
    return {
        "reference": None if reference is None else reference.model_dump(mode="json"),
        "clock_steps": [step.model_dump(mode="json") for step in manifest.clock_steps],
        "pauses": [pause.model_dump(mode="json") for pause in manifest.pauses],
    }
