"""SnapshotService: takes pictures, without any web; its queue of captures and the state of each camera.

See docs/protocols/snapshot.md.
"""

import asyncio
import fcntl
import logging
import os
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar
from weakref import WeakValueDictionary

from asynccam.errors import AsynccamError, BusyError, StateError, UsageError
from asynccam.model.events import Event
from asynccam.redaction import loggable
from asynccam.runtime.disk import on_disk, storage_errors
from asynccam.runtime.event_hub import EventHub, Subscription
from asynccam.runtime.tasks import TaskScope, finish
from asynccam.systems.snapshot.server import events
from asynccam.systems.snapshot.server.backends import (
    JPEG_FORMATS,
    Backend,
    BrokenPictureError,
    Exposure,
    check_picture,
)
from asynccam.systems.snapshot.server.imu import ImuFeed, write_reading
from asynccam.systems.snapshot.server.models import CaptureState, Phase, Reading, Shot, ShotResult
from asynccam.systems.snapshot.server.settings import CameraConfig, ConfigFile
from asynccam.systems.snapshot.server.store import PREFIXES, SnapshotStore
from asynccam.systems.snapshot.server.systemd import Services

T = TypeVar("T")

_LOG = logging.getLogger(__name__)
_CLOSE_TIMEOUT: Final = 150.0
"""Seconds; a cancelled capture ends only after its systemd service runs again."""

_Results = dict[str, Shot | Exception]
"""By camera name."""


class SnapshotService:
    """Takes pictures with the cameras of a configuration; an async context manager that owns its parts.

    Entering locks the directories of pictures and journal, opens configuration, store, services and IMU in
    this order, and restarts services that a crash left stopped. Leaving refuses new captures, gives running
    ones ``grace`` seconds, cancels the others, restarts every stopped service and closes the parts. Captures
    run in tasks of the service; cancelling the caller cancels its capture.

    Args:
        config: The cameras; changes of its retention and IMU settings take effect at once.
        store: Where pictures are kept.
        backend: Takes the pictures.
        services: Stops and restarts systemd services that hold a device.
        imu: Source of readings, or None.
        events: Where all parts emit their events; not closed here.
        max_captures: Concurrent captures; None for the configuration's value.
        max_waiting: Captures that may wait, more are refused; None for the configuration's value.
        grace: Seconds for running captures at the end.

    Raises:
        BusyError: On entering, another server uses one of the directories.
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
            raise UsageError(f"grace must be >= 0 s, not {grace:g}")
        self.config = config
        self.store = store
        self.services = services
        self.imu = imu
        self.events = events
        config.events = store.events = services.events = events
        if imu is not None:
            imu.events = events
        store.cameras = lambda: [camera.name for camera in config.cameras]
        self._backend = backend
        self._max_captures = max_captures
        self._max_waiting = max_waiting
        self._queue = CaptureQueue(*self._limits())
        self._states = CaptureStates(events)
        self._grace = grace
        self._scope = TaskScope("snapshot-captures", on_failure=_leave_to_caller)
        self._parts = AsyncExitStack()
        self._open = False
        self._subscription: Subscription | None = None

    @property
    def capturing(self) -> int:
        """Number of running captures."""
        return self._queue.running

    @property
    def waiting(self) -> int:
        """Number of waiting captures."""
        return self._queue.waiting

    def cameras(self) -> tuple[CameraConfig, ...]:
        """Return the cameras in force, in the file's order."""
        return self.config.cameras

    def state_of(self, name: str) -> CaptureState:
        """Return the state of a camera.

        Raises:
            NotFoundError: There is no such camera.
        """
        self.config.camera(name)
        newest = self.store.newest(name)
        phase, error = self._states.state_of(name)
        if newest is None:
            return CaptureState(phase, error=error)
        return CaptureState(phase, newest.filename, newest.taken_at, error)

    async def capture(self, name: str, *, prefix: str = "snapshot") -> Shot:
        """Take a picture with the camera ``name``; ``prefix`` is the first part of its file name.

        Raises:
            NotFoundError: There is no such camera.
            BusyError: Too many captures wait already.
            RecordingError: The capture failed; the message says why.
            TimeoutError: It took too long.
            DeviceError: The camera's systemd service cannot be stopped.
            StorageError: The picture cannot be written.
            StateError: The service is not open, or is shutting down.
            UsageError: The prefix is invalid.
        """
        self._check(prefix)
        camera = self.config.camera(name)
        (ticket,) = self._queue.admit()
        with ticket:
            return await self._run_owned(self._capture(camera, prefix, ticket, camera.interrupts), name)

    async def capture_all(self, *, prefix: str = "api_all_cams") -> tuple[ShotResult, ...]:
        """Take a picture with every camera; a camera that fails does not affect the others.

        Each systemd service is stopped once at the beginning and restarted once at the end.

        Returns:
            One result per camera in the file's order, ``()`` without cameras.

        Raises:
            BusyError: Too many captures wait already; nothing was stopped.
            StateError: The service is not open, or is shutting down.
            UsageError: The prefix is invalid.
        """
        return await self._capture_group(self.config.cameras, prefix, stereo=False)

    async def capture_stereo(self, *, prefix: str = "api_stereo") -> tuple[ShotResult, ...]:
        """Take pictures with the cameras marked stereo, with the least delay in between.

        All are prepared first and then fired together; cameras that share a device follow one another.
        Returns and raises as `capture_all`.
        """
        cameras = [camera for camera in self.config.cameras if camera.stereo]
        return await self._capture_group(cameras, prefix, stereo=True)

    async def aclose(self) -> None:
        """Close the service as leaving the block does; may be called twice."""
        self._open = False
        await finish(self._close())

    async def __aenter__(self) -> "SnapshotService":
        try:
            self._subscription = self.events.subscribe(self._config_changed, events.ConfigChanged)
            await self._parts.enter_async_context(
                lock_directories(self.store.directory, self.services.journal.parent)
            )
            await self._parts.enter_async_context(self.config)
            self._queue = CaptureQueue(*self._limits())  # the file may have changed since it was first read
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

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # -- lifecycle ------------------------------------------------------------------------------

    def _limits(self) -> tuple[int, int]:
        limits = self.config.current.limits
        return (
            limits.captures if self._max_captures is None else self._max_captures,
            limits.waiting if self._max_waiting is None else self._max_waiting,
        )

    def _check(self, prefix: str) -> None:
        if prefix not in PREFIXES:
            raise UsageError(f"invalid prefix {prefix!r}; expected one of {', '.join(PREFIXES)}")
        if not self._open:
            raise StateError("the server takes no pictures: it is not open, or is shutting down")

    async def _run_owned(self, job: Coroutine[Any, Any, T], name: str) -> T:
        """Run a capture in a task that is cancelled with the service, and with the caller."""
        task = self._scope.spawn(job, name=name)
        try:
            # Awaiting the task itself could not tell its own cancellation from the caller's.
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
            await self._scope.aclose(timeout=_CLOSE_TIMEOUT)
        finally:
            await self._parts.aclose()

    async def _config_changed(self, _: events.ConfigChanged) -> None:
        config = self.config.current
        if self.store.retention != config.retention:
            self.store.retention = config.retention
            self.store.wake()
        if self.imu is not None:
            await self.imu.use(config.imu)
        self._states.keep_only({camera.name for camera in config.cameras})

    # -- one camera -----------------------------------------------------------------------------

    async def _capture(self, camera: CameraConfig, prefix: str, ticket: ExitStack, interrupts: str) -> Shot:
        """Take a picture while the systemd service ``interrupts``, if any, is stopped."""
        progress = self._states.begin(camera.name)
        try:
            with ticket:
                shot = await self._capture_now(camera, prefix, progress, interrupts)
        except BaseException as error:
            progress.failed(_failure_text(error))
            raise
        progress.done(shot)
        return shot

    async def _capture_now(
        self, camera: CameraConfig, prefix: str, progress: "CaptureProgress", interrupts: str
    ) -> Shot:
        device = await device_key(camera.device_path)
        async with AsyncExitStack() as slot:
            # Services are restarted before another capture may have the device: exits are in reverse order.
            async with AsyncExitStack() as held:
                await held.enter_async_context(self._queue.device(device))
                await slot.enter_async_context(self._queue.slot())
                progress.started()
                part = await slot.enter_async_context(self.store.part())
                if interrupts:
                    await held.enter_async_context(self.services.interrupted(interrupts))
                exposure = await held.enter_async_context(self._backend.prepare(camera, part))
                exposure.fire()
                picture = await self._wait_for_picture(camera, part, held, exposure)
            # The device is free again; the slot is held until the picture is in the store.
            return await self._add_to_store(camera, prefix, part, picture)

    async def _wait_for_picture(
        self, camera: CameraConfig, part: Path, held: AsyncExitStack, exposure: Exposure
    ) -> "_Picture":
        """Wait for a fired exposure; a broken picture is taken once more, while the device is still held."""
        try:
            return await self._checked_picture(camera, part, exposure)
        except BrokenPictureError as error:
            _LOG.warning("%s; the picture is taken once more", error)
        exposure = await held.enter_async_context(self._backend.prepare(camera, part))
        exposure.fire()
        try:
            return await self._checked_picture(camera, part, exposure)
        except BrokenPictureError as error:
            raise BrokenPictureError(f"{error} (at the second capture too)") from error

    async def _checked_picture(self, camera: CameraConfig, part: Path, exposure: Exposure) -> "_Picture":
        taken_at = await exposure.taken()
        if camera.pixel_format in JPEG_FORMATS:  # a raw frame is checked once it has become a JPEG
            await on_disk(check_picture, part, camera.device_path)
        reading = None if self.imu is None else self.imu.reading()
        if reading is not None:
            reading = reading.turned(camera.roll_offset, camera.pitch_offset, camera.yaw_offset)
        return _Picture(exposure, taken_at, reading)

    async def _add_to_store(self, camera: CameraConfig, prefix: str, part: Path, picture: "_Picture") -> Shot:
        await picture.exposure.develop()
        if camera.pixel_format not in JPEG_FORMATS:
            await on_disk(check_picture, part, camera.device_path)
        reading = picture.reading
        if reading is not None and not await on_disk(write_reading, part, reading):
            reading = None
        stored = await self.store.add(
            part, prefix=prefix, camera=camera.name, taken_at=picture.taken_at, whole=True
        )
        return replace(stored, imu=reading)

    # -- several cameras ------------------------------------------------------------------------

    async def _capture_group(
        self, cameras: Sequence[CameraConfig], prefix: str, *, stereo: bool
    ) -> tuple[ShotResult, ...]:
        self._check(prefix)
        if not cameras:
            return ()
        tickets = self._queue.admit(len(cameras))
        try:
            job = (
                self._capture_stereo(cameras, prefix)
                if stereo
                else self._capture_each(cameras, prefix, tickets)
            )
            results = await self._run_owned(job, "stereo" if stereo else "all")
        finally:
            for ticket in tickets:
                ticket.close()
        return tuple(_result(camera.name, results[camera.name]) for camera in cameras)

    async def _capture_each(
        self, cameras: Sequence[CameraConfig], prefix: str, tickets: Sequence[ExitStack]
    ) -> _Results:
        async with self._interrupted(cameras) as refused, TaskScope("snapshot-all") as scope:
            for name, error in refused.items():
                self._states.begin(name).failed(_failure_text(error))
            jobs = {
                camera.name: self._capture(camera, prefix, ticket, "")
                for camera, ticket in zip(cameras, tickets, strict=True)
                if camera.name not in refused
            }
            return {**refused, **await scope.gather(jobs, name="camera")}

    async def _capture_stereo(self, cameras: Sequence[CameraConfig], prefix: str) -> _Results:
        results: _Results = {}
        async with AsyncExitStack() as parts:
            progress = {camera.name: self._states.begin(camera.name) for camera in cameras}
            try:
                taken = await self._expose_stereo(cameras, progress, results, parts)
                async with TaskScope("snapshot-stereo") as scope:
                    jobs = {
                        part.camera.name: self._add_to_store(part.camera, prefix, part.path, picture)
                        for part, picture in taken
                    }
                    results |= await scope.gather(jobs, name="camera")
            finally:
                for camera in cameras:
                    result = results.get(camera.name)
                    if isinstance(result, Shot):
                        progress[camera.name].done(result)
                    else:
                        progress[camera.name].failed(_failure_text(result))
        return results

    async def _expose_stereo(
        self,
        cameras: Sequence[CameraConfig],
        progress: Mapping[str, "CaptureProgress"],
        results: _Results,
        parts: AsyncExitStack,
    ) -> list[tuple["_StereoPart", "_Picture"]]:
        """Take the pictures, as many devices at once as there are slots; add failures to ``results``."""
        by_device: dict[str, list[CameraConfig]] = {}
        for camera in cameras:
            by_device.setdefault(await device_key(camera.device_path), []).append(camera)
        devices = list(by_device)
        taken: list[tuple[_StereoPart, _Picture]] = []
        async with self._interrupted(cameras) as refused:
            results |= refused
            for start in range(0, len(devices), self._queue.at_once):
                batch = devices[start : start + self._queue.at_once]
                async with self._queue.devices(batch), AsyncExitStack() as held:
                    prepared = [
                        await self._prepare_stereo(by_device[device], progress, results, parts, held)
                        for device in batch
                    ]
                    # No await between them: this is what everything was prepared for.
                    for chain in prepared:
                        if chain:
                            chain[0].exposure.fire()
                    async with TaskScope("snapshot-stereo") as scope:
                        jobs = {
                            index: self._expose_chain(chain, results) for index, chain in enumerate(prepared)
                        }
                        outcomes = await scope.gather_all(jobs, name="device")
                    for outcome in outcomes.values():
                        taken += outcome
        return taken

    async def _prepare_stereo(
        self,
        chain: Sequence[CameraConfig],
        progress: Mapping[str, "CaptureProgress"],
        results: _Results,
        parts: AsyncExitStack,
        held: AsyncExitStack,
    ) -> list["_StereoPart"]:
        prepared = []
        for camera in chain:
            if camera.name in results:
                continue
            progress[camera.name].started()
            own = await held.enter_async_context(AsyncExitStack())
            try:
                path = await parts.enter_async_context(self.store.part())
                exposure = await own.enter_async_context(self._backend.prepare(camera, path, hold=True))
            except AsynccamError as error:
                results[camera.name] = error
            else:
                prepared.append(_StereoPart(camera, path, own, exposure))
        return prepared

    async def _expose_chain(
        self, chain: Sequence["_StereoPart"], results: _Results
    ) -> list[tuple["_StereoPart", "_Picture"]]:
        """Wait for the first camera of a device, which was fired, and capture with the others after it."""
        taken = []
        for index, part in enumerate(chain):
            if index:
                part.exposure.fire()
            try:
                picture = await self._wait_for_picture(part.camera, part.path, part.held, part.exposure)
                await part.held.aclose()
            except AsynccamError as error:
                results[part.camera.name] = error
            else:
                taken.append((part, picture))
        return taken

    @asynccontextmanager
    async def _interrupted(self, cameras: Sequence[CameraConfig]) -> AsyncIterator[dict[str, Exception]]:
        """Stop the systemd services of cameras; yield the error of each camera whose service runs on."""
        names = dict.fromkeys(camera.interrupts for camera in cameras if camera.interrupts)
        async with self.services.all_interrupted(names) as refused:
            yield {
                camera.name: refused[camera.interrupts] for camera in cameras if camera.interrupts in refused
            }


@dataclass(frozen=True, slots=True)
class _Picture:
    """A picture that is not stored yet; ``taken_at`` in Unix seconds."""

    exposure: Exposure
    taken_at: float
    reading: Reading | None


@dataclass(frozen=True, slots=True)
class _StereoPart:
    """One prepared camera of a stereo capture; ``held`` is closed once its picture is taken."""

    camera: CameraConfig
    path: Path
    held: AsyncExitStack
    exposure: Exposure


def _leave_to_caller(name: str, error: Exception) -> None:
    """Log a failure that is raised to the caller of the capture."""
    _LOG.debug("%s: %s", name, error)


def _failure_text(error: BaseException | None) -> str:
    if error is None or isinstance(error, asyncio.CancelledError):
        return "the capture was cancelled"
    return str(error) or type(error).__name__


def _result(camera: str, outcome: Shot | Exception) -> ShotResult:
    if isinstance(outcome, Shot):
        return ShotResult(camera, outcome)
    if not isinstance(outcome, AsynccamError):
        _LOG.error("capture with %s failed", camera, exc_info=outcome)
    return ShotResult(camera, error=_failure_text(outcome))


# -- queue --------------------------------------------------------------------------------------


class CaptureQueue:
    """Admits captures in order: one at a time per device, ``at_once`` in all, ``max_waiting`` more wait.

    A capture acquires the device first and then a slot: captures that wait for a busy device hold no slot.
    Raises `UsageError` if a limit is out of range.
    """

    def __init__(self, at_once: int, max_waiting: int) -> None:
        if at_once < 1 or max_waiting < 0:
            raise UsageError(f"at_once must be >= 1 and max_waiting >= 0, not {at_once} and {max_waiting}")
        self.at_once = at_once
        self.inside = 0  # captures that run or wait
        self.running = 0
        self._capacity = at_once + max_waiting
        self._slots = asyncio.Semaphore(at_once)
        self._devices: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._several = asyncio.Lock()

    @property
    def waiting(self) -> int:
        """Captures that wait."""
        return self.inside - self.running

    def admit(self, count: int = 1) -> tuple[ExitStack, ...]:
        """Return tickets for ``count`` captures; an empty queue admits any number.

        Closing a ticket releases its place; it may be closed twice. Raises `BusyError` if the queue is full.
        """
        if self.inside and self.inside + count > self._capacity:
            raise BusyError(f"{self.waiting} captures wait already; try again later")
        self.inside += count
        tickets = tuple(ExitStack() for _ in range(count))
        for ticket in tickets:
            ticket.callback(self._leave)
        return tickets

    def device(self, key: str) -> asyncio.Lock:
        """Return the lock of a device."""
        # A capture that holds the lock or waits for it keeps it alive; afterwards the lock is dropped.
        return self._devices.setdefault(key, asyncio.Lock())

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a slot, and hold it."""
        async with self._slots:
            self.running += 1
            try:
                yield
            finally:
                self.running -= 1

    @asynccontextmanager
    async def devices(self, keys: Iterable[str]) -> AsyncIterator[None]:
        """Wait for several devices, at most `at_once`, and a slot for each, and hold them."""
        async with self._several, AsyncExitStack() as held:
            # In sorted order, and one such wait at a time: no two waits can block each other.
            for key in sorted(keys):
                await held.enter_async_context(self.device(key))
            for _ in keys:
                await held.enter_async_context(self.slot())
            yield

    def _leave(self) -> None:
        self.inside -= 1


async def device_key(path: str) -> str:
    """Return the key of a device; links to the same device have the same key."""
    return await on_disk(os.path.realpath, path)


# -- state of each camera -----------------------------------------------------------------------


@dataclass(slots=True)
class _CameraActivity:
    waiting: int = 0
    capturing: int = 0
    error: str | None = None


class CaptureStates:
    """State of each camera, by its captures; emits the capture events."""

    def __init__(self, hub: EventHub) -> None:
        self._hub = hub
        self._cameras: dict[str, _CameraActivity] = {}

    def keep_only(self, names: set[str]) -> None:
        """Forget all other cameras, except those that still capture."""
        self._cameras = {
            name: activity
            for name, activity in self._cameras.items()
            if name in names or activity.waiting or activity.capturing
        }

    def state_of(self, camera: str) -> tuple[Phase, str | None]:
        """Return the phase of a camera, and the error of its latest capture."""
        activity = self._cameras.get(camera) or _CameraActivity()
        if activity.capturing:
            return Phase.CAPTURING, activity.error
        if activity.waiting:
            return Phase.WAITING, activity.error
        return (Phase.IDLE if activity.error is None else Phase.FAILED), activity.error

    def begin(self, camera: str) -> "CaptureProgress":
        """Follow a capture, which is waiting from now on."""
        return CaptureProgress(self._hub, camera, self._cameras.setdefault(camera, _CameraActivity()))


class CaptureProgress:
    """One capture: queued, started, and done or failed."""

    def __init__(self, hub: EventHub, camera: str, activity: _CameraActivity) -> None:
        self._hub = hub
        self._camera = camera
        self._activity = activity
        self._started = False
        self._ended = False
        activity.waiting += 1
        self._emit(events.CaptureQueued(camera=camera))

    def started(self) -> None:
        """Record that the device is in use."""
        self._started = True
        self._activity.waiting -= 1
        self._activity.capturing += 1
        self._emit(events.CaptureStarted(camera=self._camera))

    def done(self, shot: Shot) -> None:
        """Record the picture, unless the capture has ended."""
        if self._end():
            self._activity.error = None
            self._emit(events.CaptureDone(camera=self._camera, shot=shot))

    def failed(self, error: str) -> None:
        """Record the failure, unless the capture has ended."""
        if self._end():
            self._activity.error = error
            self._emit(events.CaptureFailed(camera=self._camera, error=error))

    def _emit(self, event: Event) -> None:
        if _LOG.isEnabledFor(logging.DEBUG):
            _LOG.debug("event %s", loggable(event))
        self._hub.emit(event)

    def _end(self) -> bool:
        if self._ended:
            return False
        self._ended = True
        if self._started:
            self._activity.capturing -= 1
        else:
            self._activity.waiting -= 1
        return True


# -- lock of directories ------------------------------------------------------------------------


@asynccontextmanager
async def lock_directories(*directories: Path) -> AsyncIterator[None]:
    """Lock directories, which are created if missing; the kernel releases them too if the process dies.

    A second server would remove unfinished pictures and restart services that the first one uses.

    Raises:
        BusyError: Another server uses one of them.
        StorageError: One cannot be created or opened.
    """
    held: dict[tuple[int, int], int] = {}
    try:
        await on_disk(_lock, directories, held)
        yield
    finally:
        for fd in held.values():
            os.close(fd)


def _lock(directories: tuple[Path, ...], held: dict[tuple[int, int], int]) -> None:
    """Lock the directories themselves, so that no file remains; blocking."""
    for directory in directories:
        with storage_errors("use", directory):
            directory.mkdir(parents=True, exist_ok=True)
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            found = os.fstat(fd)
        if held.setdefault((found.st_dev, found.st_ino), fd) != fd:
            os.close(fd)
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(f"another Snapshot server uses {directory}") from None
        except OSError:  # a file system without locks is used without
            continue
