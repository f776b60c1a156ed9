"""Take: unlike cameras started together, stopped, and every file brought home whole. See docs/take.md."""

import asyncio
import builtins
import logging
import math
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from asynccam.errors import StateError, StorageError, TimeoutError, UsageError
from asynccam.model.camera import Camera
from asynccam.model.credentials import Credentials
from asynccam.model.events import TakePhaseChanged
from asynccam.model.filenames import safe_name
from asynccam.model.manifest import Manifest, MissingRecord, Outcome
from asynccam.runtime.tasks import TaskScope, finish, see_done
from asynccam.runtime.timing import sleep_until
from asynccam.take.clocks import TimeServer
from asynccam.take.collector import FileCheck
from asynccam.take.limits import TakeLimits
from asynccam.take.manifest_store import ManifestStore
from asynccam.take.participant import Emit
from asynccam.take.resume import Connector, Hosts, resume_take
from asynccam.take.work import TakeWork
from asynccam.wall_clock import local_now

_LOG = logging.getLogger(__name__)


class TakeState(Enum):
    """Where a take stands; also the phase in its manifest and events."""

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
    _S.STARTING: frozenset({_S.RECORDING, _S.STOPPING, _S.DONE}),
    _S.RECORDING: frozenset({_S.STOPPING, _S.DONE}),
    _S.STOPPING: frozenset({_S.STOPPED, _S.DONE}),
    _S.STOPPED: frozenset({_S.COLLECTING, _S.DONE}),
    _S.COLLECTING: frozenset({_S.DONE}),
    _S.DONE: frozenset(),
}
"""What may follow what. ``STARTING`` to ``STOPPING`` is the way of a take that is cancelled before T0."""


_STOPPING: Final = frozenset({TakeState.STARTING, TakeState.RECORDING, TakeState.STOPPING})
"""Where cameras may record; a take that ends there has not been ended in order."""


class Take:
    """One take: `arm`, `start`, `stop`, `collect`, or all of it by `run`.

    What one camera does wrong stands in its own record and disturbs no other. Cancelled at any
    step, the take stops what was started, brings home what exists within
    `TakeLimits.cancel_timeout`, writes the manifest and lets the cancellation go on. Further
    cancellations change nothing; only `abort` cuts that short. As a context manager it does the same
    when the block is left before the end.

    Args:
        cameras: The cameras, each once.
        directory: Where takes are kept; this one becomes a new directory in it.
        name: Its name, made safe; by default the time, ``take-20240131-142530``.
        limits: Bounds of every wait.
        time_server: Reference for T0 instead of this computer's clock.
        verify: Looks into each file that arrived.
        emit: Where events go.
        labels: What a person calls the cameras, by id; their directories are called so.
        missing: Who was to take part and is not there; a take that misses somebody is not complete.

    Attributes:
        state: Where the take stands.
        limits: As given.

    Raises:
        UsageError: No camera, or one of them twice.
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
    ) -> None:
        ids = [camera.id for camera in cameras]
        if not ids or len(set(ids)) < len(ids):
            raise UsageError(f"a take needs cameras, each of them once, not {ids}")
        self.state = TakeState.NEW
        self.limits = limits or TakeLimits()
        chosen = safe_name(name or local_now().strftime("take-%Y%m%d-%H%M%S"), fallback="take")
        self._folder = ManifestStore(Path(directory), chosen)
        self._work = TakeWork(
            cameras, self._folder, self.limits, time_server, verify, emit, labels or {}, missing
        )
        self._emit = emit
        self._step: asyncio.Task[None] | None = None
        # A scope of its own, because the end closes the one of the work.
        self._endings = TaskScope(f"end of take {chosen}", on_failure=self._work.failed)
        self._ending: asyncio.Task[None] | None = None
        self._limit = asyncio.timeout(None)
        self._aborted = False

    # -- what it is -----------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The take's name, which is its directory's; armed, it may have got a number to be new."""
        return self._folder.name

    @property
    def directory(self) -> Path:
        """The take's own directory.

        Raises:
            StateError: It has not been armed, so there is none yet.
        """
        if not self._folder.exists:
            raise StateError(f"take {self.name} has no directory before it is armed")
        return self._folder.path

    @property
    def manifest(self) -> Manifest:
        """What happened so far; a copy."""
        return self._work.manifest.model_copy(deep=True)

    @property
    def awaited(self) -> tuple[str, ...]:
        """Ids of the cameras whose answer to the start has not come yet."""
        return tuple(key for key, member in self._work.members.items() if member.is_awaited)

    @property
    def ok(self) -> bool:
        """Whether the take has ended and every camera's every file came home whole."""
        return self._work.manifest.outcome is Outcome.COMPLETE

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
        return f"<Take {self.name} {self.state.value}, cameras: {len(self._work.members)}>"

    # -- the steps ------------------------------------------------------------------------------

    async def run(self, *, duration: float, start_in: float = 3.0) -> Self:
        """The whole take: arm, start together, record, stop, collect.

        It ends early when no camera could be armed or started. Cameras' failures are not raised;
        see `ok` and `manifest`.

        Args:
            duration: Seconds from T0 to the stop.
            start_in: Seconds from the moment all are armed to T0.

        If T0 passes while the computer sleeps or the loop is blocked, the starts leave late, or not at all if
        the take would be over, and the take still ends ``duration`` seconds after T0.

        Raises:
            UsageError: A time is not one.
            StateError: The take has been used before.
            StorageError: The directory or the manifest cannot be written.
        """
        _check("duration", duration)
        _check("start_in", start_in)
        await self.arm(duration=duration)
        members = self._work.members.values()
        if any(member.armed is not None for member in members):
            await self._start(start_in, min(duration, self.limits.start_answer_grace), until=duration)
            if any(member.may_record for member in members):
                await self._run_step("record", None, sleep_until(self._work.t0 + duration))
            await self.stop()
            await self.collect()
        else:
            await self._end(None)
        return self

    async def arm(self, *, duration: float | None = None) -> None:
        """Make the directory, measure the clocks, and arm all cameras side by side.

        Args:
            duration: Intended length in seconds; a hint for the cameras.

        Raises:
            StateError: Not the first step.
            StorageError: The directory or the manifest cannot be written.
        """
        await self._run_step("arm", TakeState.ARMING, self._work.arm(duration))
        self._move(TakeState.ARMED)
        await self._run_step("save", None, self._work.save_if_possible())

    async def start(self, *, start_in: float = 3.0) -> None:
        """Start every armed camera at T0, and return once T0 has passed and the answers are in.

        Cameras that start by their own clock are told at once to start at T0; all others are told
        at T0. Answers that take longer than `TakeLimits.settle` past T0 are waited for by `stop`.

        Args:
            start_in: Seconds from now to T0; 3 gives every command time to arrive.

        Raises:
            UsageError: ``start_in`` is negative or endless.
            StateError: Not armed, or started before.
        """
        _check("start_in", start_in)
        await self._start(start_in, self.limits.start_answer_grace)

    async def stop(self) -> None:
        """Stop all cameras side by side, also those that answer the start only now.

        Raises:
            StateError: Not started, or stopped before.
        """
        await self._run_step("stop", TakeState.STOPPING, self._stop(None))

    async def collect(self) -> None:
        """Bring all files home, write the manifest for the last time, and end the take.

        Raises:
            StateError: Not stopped.
            StorageError: The manifest cannot be written.
        """
        await self._run_step("collect", TakeState.COLLECTING, self._work.collect())
        await self._end(None)

    async def aclose(self, *, timeout: float | None = None) -> None:
        """End the take now, as a cancellation would; harmless when it has ended.

        Args:
            timeout: Seconds instead of `TakeLimits.cancel_timeout`.

        Raises:
            StorageError: The manifest cannot be written.
        """
        if self._ending is None or not self._ending.done():
            await self._end(Outcome.CANCELLED, timeout)

    def abort(self) -> Awaitable[None]:
        """End the take at once; harmless when it has ended.

        No camera is asked for anything more, and no file is fetched. What was given up stands in the
        manifest's errors. If a camera may record still, the take's ``outcome`` stays ``running`` and its
        journal stays, so that `resume` stops that camera.

        Returns:
            What can be awaited for the end; it need not be. Awaited, it may raise `StorageError`: the
            manifest cannot be written.
        """
        self._aborted = True
        self._work.hurry()
        self._bring_forward(0.0)
        return self._endings.spawn(self.aclose(timeout=0.0), name="abort")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # -- how a step runs ------------------------------------------------------------------------

    async def _start(self, start_in: float, settle: float, until: float | None = None) -> None:
        def on_t0() -> None:
            self._move(TakeState.RECORDING)

        work = self._work.start(start_in, settle, on_t0, until=until)
        await self._run_step("start", TakeState.STARTING, work)
        await self._run_step("save", None, self._work.save_if_possible())

    async def _stop(self, patience: float | None) -> None:
        await self._work.stop(patience)
        self._move(TakeState.STOPPED)
        await self._work.save_if_possible()

    async def _run_step(self, name: str, state: TakeState | None, work: Coroutine[Any, Any, None]) -> None:
        """Run a step in a task of its own, so that its caller's cancellation finds it alive.

        A transfer in flight, or a stop whose answer is awaited, is then waited for by the wind-up
        and not thrown away and begun again.
        """
        try:
            if self._step is not None and not self._step.done():
                raise StateError(f"take {self.name} is busy: {self.state.value}")
            if state is not None:
                self._move(state)
            step = self._step = self._work.scope.spawn(work, name=name)
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

    def _move(self, to: TakeState) -> None:
        if to not in TRANSITIONS[self.state]:
            raise StateError(f"take {self.name} is {self.state.value} and cannot go on to {to.value}")
        _LOG.debug("take %s: %s -> %s", self.name, self.state.value, to.value)
        self.state = to
        self._work.manifest.phase = to.value
        self._emit(TakePhaseChanged(take=self.name, phase=to.value))

    # -- the end --------------------------------------------------------------------------------

    async def _end_quietly(self, outcome: Outcome) -> None:
        """End the take for a caller who is to hear of something else than an unwritable manifest."""
        try:
            await self._end(outcome)
        except StorageError as error:
            self._work.failed("manifest", error)

    async def _end(self, outcome: Outcome | None, timeout: float | None = None) -> None:
        """End the take once; whoever else asks waits for the same end, however often cancelled meanwhile."""
        if self._ending is None:
            work = self._wind_up(outcome, self.limits.cancel_timeout if timeout is None else timeout)
            self._ending = self._endings.spawn(work, name="end")
        elif timeout is not None:
            self._bring_forward(timeout)
        await see_done({self._ending})
        if not self._ending.cancelled():
            self._ending.result()

    def _bring_forward(self, timeout: float) -> None:
        """Have the winding up end in so many seconds, if it would last longer."""
        until = asyncio.get_running_loop().time() + timeout
        when = self._limit.when()
        if when is not None and until < when:
            with suppress(RuntimeError):  # it is over
                self._limit.reschedule(until)

    async def _wind_up(self, outcome: Outcome | None, timeout: float) -> None:
        """Stop what was started, bring home what exists, and write down how it ended."""
        in_order = False
        try:
            async with asyncio.timeout(timeout) as self._limit:
                await self._end_step()
                if self.state in (TakeState.STARTING, TakeState.RECORDING):
                    self._move(TakeState.STOPPING)
                    await self._stop(self.limits.start_answer_grace)
                if self.state is TakeState.STOPPED:
                    self._move(TakeState.COLLECTING)
                    await self._work.collect()
            in_order = self.state not in _STOPPING
        except builtins.TimeoutError:
            if not self._limit.expired():
                raise
            self._work.failed("end", TimeoutError(self._why_given_up(timeout)))
        finally:
            await finish(self._finish(outcome, in_order))

    def _why_given_up(self, timeout: float) -> str:
        if self._aborted:
            return "the take was aborted before it could be ended in order"
        return f"the take could not be ended in order within {timeout:g} s"

    async def _end_step(self) -> None:
        """Cut the running step short, unless it is one that has to be gone through anyway."""
        if self._step is not None and not self._step.done():
            if self.state not in (TakeState.STOPPING, TakeState.STOPPED, TakeState.COLLECTING):
                self._step.cancel()
            await asyncio.wait({self._step})

    async def _finish(self, outcome: Outcome | None, in_order: bool) -> None:
        try:
            await self._work.finish(outcome, in_order=in_order)
            phase = self._work.manifest.phase
            self._move(TakeState.DONE)
            if self._work.manifest.outcome is Outcome.RUNNING:
                self._work.manifest.phase = phase  # what is left of it is up to `resume`
            await self._work.save_for_good()
        finally:
            self._work.let_clock_go()


def _check(what: str, seconds: float) -> None:
    if not (math.isfinite(seconds) and seconds >= 0):
        raise UsageError(f"{what} is a number of seconds from 0 up, not {seconds}")
