"""SnapshotService: everything a Snapshot server does but the web. See docs/protocols/snapshot.md."""

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Final, TypeVar

from asynccam.errors import NotFoundError, StateError, UsageError
from asynccam.runtime.event_hub import EventHub, Subscription
from asynccam.runtime.tasks import TaskScope, finish
from asynccam.systems.snapshot.server.capture import Backend
from asynccam.systems.snapshot.server.config import CameraConfig, ConfigFile
from asynccam.systems.snapshot.server.directory_lock import claimed
from asynccam.systems.snapshot.server.events import ConfigChanged
from asynccam.systems.snapshot.server.imu import ImuFeed
from asynccam.systems.snapshot.server.models import CaptureState, Shot, ShotResult
from asynccam.systems.snapshot.server.names import PREFIXES
from asynccam.systems.snapshot.server.queue import CaptureQueue
from asynccam.systems.snapshot.server.rounds import Rounds
from asynccam.systems.snapshot.server.standing import Standings
from asynccam.systems.snapshot.server.store import SnapshotStore
from asynccam.systems.snapshot.server.systemd import Services

T = TypeVar("T")

_LOG = logging.getLogger(__name__)
_END_SECONDS: Final = 150.0
"""A cancelled capture ends after its service runs again."""


class SnapshotService:
    """Takes pictures with the cameras of a configuration; an async context manager that owns its parts.

    Entered, it takes the directories of its pictures and its journal for itself, opens the configuration,
    the store, the services and the IMU it was given, in this order, and mends what a crash left; with
    `asynccam.errors.BusyError` it is not entered, while another server works there. Left, it refuses new
    captures, gives running ones ``grace`` seconds, cancels the others, starts every stopped service again
    and closes its parts. Captures run in tasks of its own; one whose caller is cancelled is cancelled too.

    Args:
        config: The cameras. Changes of its retention and IMU settings are put in force.
        store: Where pictures go.
        backend: How they are taken.
        services: Stops and restarts what holds a device.
        imu: Where readings come from, or None.
        events: Where all parts tell what happens; closed by whoever made it.
        max_captures: Captures at the same time, or None for what the configuration says.
        max_waiting: Captures that may wait, more are refused; or None for what the configuration says.
        grace: Seconds that running captures have at the end.

    Attributes:
        config: As given.
        store: As given.
        services: As given.
        imu: As given.
        events: As given.
    """

    def __init__(
        self,
        config: ConfigFile,
        store: SnapshotStore,
        *,
        backend: Backend,
        services: Services,
        imu: ImuFeed | None,
        events: EventHub,
        max_captures: int | None = None,
        max_waiting: int | None = None,
        grace: float = 5.0,
    ) -> None:
        if grace < 0:
            raise UsageError(f"captures have 0 s or more at the end, not {grace:g}")
        self.config = config
        self.store = store
        self.services = services
        self.imu = imu
        self.events = events
        config.events = store.events = services.events = events
        if imu is not None:
            imu.events = events
        store.cameras = lambda: [camera.name for camera in config.cameras]
        self._max_captures = max_captures
        self._max_waiting = max_waiting
        self._queue = CaptureQueue(*self._limits())
        self._standings = Standings(events)
        self._rounds = Rounds(store, backend, services, imu, self._queue, self._standings)
        self._grace = grace
        self._scope = TaskScope("snapshot-captures", on_failure=_leave_to_caller)
        self._parts = AsyncExitStack()
        self._open = False
        self._subscription: Subscription | None = None

    @property
    def capturing(self) -> int:
        """Captures that run."""
        return self._queue.running

    @property
    def waiting(self) -> int:
        """Captures that wait."""
        return self._queue.waiting

    def cameras(self) -> tuple[CameraConfig, ...]:
        """The cameras in force, in the file's order."""
        return self.config.cameras

    def state_of(self, name: str) -> CaptureState:
        """Where a camera stands.

        Raises:
            NotFoundError: There is no such camera.
        """
        self.config.camera(name)
        return self._standings.state_of(name, self.store.newest(name))

    async def capture(self, name: str, *, prefix: str = "snapshot") -> Shot:
        """Take one picture.

        Args:
            name: The camera.
            prefix: What its file's name begins with, one of `names.PREFIXES`.

        Raises:
            NotFoundError: There is no such camera.
            BusyError: Too many captures wait already.
            RecordingError: The capture failed, in words.
            TimeoutError: It took too long.
            DeviceError: The camera's service cannot be stopped.
            StorageError: The disk refuses.
            StateError: The server is not open, or is being shut down.
            UsageError: There is no such prefix.
        """
        self._check(prefix)
        camera = self.config.camera(name)
        (ticket,) = self._queue.admit()
        with ticket:
            return await self._owned(self._rounds.one(camera, prefix, ticket), name)

    async def capture_all(self, *, prefix: str = "api_all_cams") -> tuple[ShotResult, ...]:
        """Take a picture with every camera; one's failure never hides another's picture.

        Each service stops once at the beginning and starts once at the end.

        Returns:
            A result for each camera in the file's order, ``()`` where there are none.

        Raises:
            BusyError: Too many captures wait already; nothing was stopped.
            StateError: The server is not open, or is being shut down.
            UsageError: There is no such prefix.
        """
        return await self._several(self.config.cameras, prefix, stereo=False)

    async def capture_stereo(self, *, prefix: str = "api_stereo") -> tuple[ShotResult, ...]:
        """Take pictures with the cameras marked stereo, with the least delay between.

        All are prepared first and then fired together; those that share a device follow one
        another. Returns and raises as `capture_all`.
        """
        return await self._several([one for one in self.config.cameras if one.stereo], prefix, stereo=True)

    async def aclose(self) -> None:
        """What leaving the block does; harmless when called twice."""
        self._open = False
        await finish(self._close())

    async def __aenter__(self) -> "SnapshotService":
        try:
            self._subscription = self.events.subscribe(self._config_changed, ConfigChanged)
            await self._parts.enter_async_context(claimed(self.store.directory, self.services.journal.parent))
            await self._parts.enter_async_context(self.config)
            self._queue.limit(*self._limits())
            self.store.retention = self.config.current.retention
            await self._parts.enter_async_context(self.store)
            await self._parts.enter_async_context(self.services)
            if self.imu is not None:
                await self.imu.use(self.config.current.imu)
                await self._parts.enter_async_context(self.imu)
        except BaseException:
            await self.aclose()
            raise
        self._open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # -- within ---------------------------------------------------------------------------------

    async def _several(
        self, cameras: Sequence[CameraConfig], prefix: str, *, stereo: bool
    ) -> tuple[ShotResult, ...]:
        self._check(prefix)
        if not cameras:
            return ()
        tickets = self._queue.admit(len(cameras))
        try:
            run = self._rounds.stereo if stereo else self._rounds.every
            return await self._owned(run(cameras, prefix, tickets), "stereo" if stereo else "all")
        finally:
            for ticket in tickets:
                ticket.leave()

    def _limits(self) -> tuple[int, int]:
        said = self.config.current.limits
        return (
            said.captures if self._max_captures is None else self._max_captures,
            said.waiting if self._max_waiting is None else self._max_waiting,
        )

    def _check(self, prefix: str) -> None:
        if prefix not in PREFIXES:
            raise UsageError(f"{prefix!r} is none of the prefixes {', '.join(PREFIXES)}")
        if not self._open:
            raise StateError("the server takes no pictures: it is not open, or is being shut down")

    async def _owned(self, job: Coroutine[Any, Any, T], name: str) -> T:
        """Run a capture in a task that the end of the service cancels, and the caller's end too."""
        task = self._scope.spawn(job, name=name)
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            task.cancel()
            await finish(asyncio.wait({task}))
            raise
        if task.cancelled():
            raise StateError("the server was shut down before the picture was taken")
        return task.result()

    async def _close(self) -> None:
        if self._subscription is not None:
            self._subscription.cancel()
        running = self._scope.tasks
        if running:
            await asyncio.wait(running, timeout=self._grace)
        try:
            await self._scope.aclose(timeout=_END_SECONDS)
        finally:
            await self._parts.aclose()

    async def _config_changed(self, _: ConfigChanged) -> None:
        config = self.config.current
        if self.store.retention != config.retention:
            self.store.retention = config.retention
            self.store.wake()
        if self.imu is not None:
            await self.imu.use(config.imu)
        for name in self._standings.names():
            try:
                self.config.camera(name)
            except NotFoundError:
                self._standings.forget(name)


def _leave_to_caller(name: str, error: Exception) -> None:
    """Whoever asked for the capture is told of its failure."""
    _LOG.debug("%s: %s", name, error)
