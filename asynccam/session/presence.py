"""Presence of cameras: probes targets until cameras answer, and polls the cameras' status."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final, TypeVar

from asynccam.errors import AsynccamError, ConnectionError, TimeoutError, UsageError
from asynccam.model.address import Address
from asynccam.model.camera import Camera
from asynccam.model.credentials import Credentials
from asynccam.model.events import CameraFailed, CameraFound, CameraLost, Event
from asynccam.model.features import Files
from asynccam.model.info import CameraInfo, CameraState
from asynccam.net.reconnecting import ConnectionState, ConnectionStateChanged
from asynccam.runtime.retry import Backoff, RetryScheduler, retry
from asynccam.runtime.tasks import TaskScope, finish, finish_on_error
from asynccam.runtime.timing import deadline
from asynccam.session.identity_checker import IdentityChecker
from asynccam.session.pending_queries import PendingQueries
from asynccam.session.registry import CameraRegistry
from asynccam.session.targets import CameraTarget
from asynccam.systems import ConnectContext
from asynccam.systems.registry import adapter_of, load_adapter
from asynccam.take import Take, TakeState

_LOG = logging.getLogger(__name__)

T = TypeVar("T")

_MIN_FIRST_TIMEOUT: Final = 4.0
_MAX_FIRST_TIMEOUT: Final = 15.0
"""Seconds between which the first probe of a target has to end; later ones have the time of a poll."""
_IDENTITY_TIMEOUT: Final = 2.0
"""Seconds a device has to show that it is still at its known address."""
_POLL_BACKOFF: Final = Backoff(initial=0.2)
"""A failed poll is repeated once, so that one lost packet does not make a camera unavailable."""
_IDLE: Final = frozenset({CameraState.READY, CameraState.UNKNOWN})


def _probe(key: str) -> Hashable:
    """Name the probing of a target; the id of its camera may be the same text."""
    return "probe", key


def _poll(key: str) -> Hashable:
    """Name the polling of a camera."""
    return "poll", key


class PresenceMonitor:
    """Keeps a `CameraRegistry` up to date by probing targets and polling cameras.

    Args:
        registry: Known cameras and targets.
        scheduler: Repeats probes and polls.
        scope: Owns the tasks of queries that are open.
        context: Makes what an adapter connects with, from credentials and the port of a file server.
        take_of: Returns the take that a camera is in, or None.
        emit: Emits an event in the session's name.
        poll_interval: Seconds between two polls of a camera; None not to poll.
    """

    def __init__(
        self,
        registry: CameraRegistry,
        scheduler: RetryScheduler,
        scope: TaskScope,
        context: Callable[[Credentials | None, int | None], ConnectContext],
        take_of: Callable[[str], Take | None],
        emit: Callable[[Event], None],
        poll_interval: float | None,
    ) -> None:
        self._registry = registry
        self._scheduler = scheduler
        self._scope = scope
        self._context = context
        self._take_of = take_of
        self._emit = emit
        self._poll_interval = poll_interval
        self._queries = PendingQueries(scope, scheduler.retry_now, self._close_unclaimed)
        self._identities = IdentityChecker()
        self._addresses: dict[str, str] = {}  # where each camera has answered for certain, by id
        self._first_timeouts: dict[str, float] = {}  # of targets that were not probed yet, by address
        self._removed: set[str] = set()
        self._reconnected: set[str] = set()
        self._reported: set[tuple[str, str]] = set()  # ids and addresses of devices that were refused
        self._unchecked: dict[str, Address] = {}  # announced, and not known to be the camera's yet, by id
        self._unclaimed: list[Camera] = []  # connected after their query had timed out
        self._paused: Counter[str] = Counter()  # blocks that pause the polls of a camera, by id
        self._closed = False

    # -- probing targets --------------------------------------------------------------------------

    def add_target(self, target: CameraTarget, timeout: float = 0.0) -> asyncio.Event:
        """Probe a target until a camera answers; it is unavailable until then.

        If somebody waits ``timeout`` seconds, the first probe may take as long, within 4 to 15 s. The event
        that is returned is set when the first probe has ended.
        """
        key = str(target.address)
        self._first_timeouts[key] = min(max(timeout, _MIN_FIRST_TIMEOUT), _MAX_FIRST_TIMEOUT)
        self._registry.targets[key] = target
        self._registry.expect(key)
        connect = self._connect_service if target.is_service else self._connect_camera
        return self._scheduler.schedule(
            _probe(key),
            lambda: connect(target),
            lambda error: self._registry.mark_failed(key, error),
            interval=self._poll_interval if target.is_service else None,
        )

    async def wait_probed(self, probed: Mapping[str, asyncio.Event], timeout: float) -> None:
        """Wait until first probes have ended, by address, or until ``timeout`` seconds are over."""
        with suppress(TimeoutError):
            async with deadline(timeout, "answers"):
                for event in probed.values():
                    await event.wait()
        within = f" within {timeout:g} s" if timeout > 0 else " yet"
        for key, event in probed.items():
            if not event.is_set():
                self._registry.mark_unanswered(key, TimeoutError(f"{key} has not answered{within}"))

    async def connect(
        self, address: Address, credentials: Credentials | None, timeout: float, http_port: int | None = None
    ) -> Camera:
        """Connect to the camera at an address; the caller adds it, or closes it."""
        adapter = await load_adapter(address.system)
        async with deadline(timeout, f"answer from {address}"):
            return await adapter.connect(address, self._context(credentials, http_port))

    async def _connect_camera(self, target: CameraTarget) -> None:
        await self._connect_at(target.address, target)

    async def _connect_service(self, target: CameraTarget) -> None:
        """Connect to every new camera behind a service; one's failure does not concern the others."""
        adapter = await load_adapter(target.address.system)
        context = self._context(target.credentials, target.http_port)
        listed: list[CameraInfo] = await self._ask(
            str(target.address), lambda: adapter.list_cameras(target.address, context)
        )
        known = self._registry.cameras.keys() | self._removed
        new = [info for info in listed if info.id not in known]
        self._registry.expect_behind(target, [info.id for info in new])
        self._registry.mark_reached(str(target.address))
        for info in new:
            try:
                await self._connect_at(Address.parse(info.address), target)
            except AsynccamError as error:
                self._registry.mark_failed(info.id, error)

    async def _connect_at(self, address: Address, target: CameraTarget) -> None:
        credentials, http_port = target.credentials, target.http_port
        camera = await self._ask(
            str(address), lambda: self.connect(address, credentials, _MAX_FIRST_TIMEOUT, http_port)
        )
        await self.add_checked(camera, target, credentials=credentials, http_port=http_port)

    async def _ask(self, key: str, query: Callable[[], Awaitable[T]]) -> T:
        """Send a query to an address: with its first timeout at first, then with that of a poll."""
        first = self._first_timeouts.pop(key, None)
        if first is None:
            return await self._queries.ask(_probe(key), query, key)
        async with deadline(first, f"answer from {key}"):
            return await query()

    def _close_unclaimed(self, answer: object) -> None:
        """Close a camera that was connected after its query had timed out."""
        if not isinstance(answer, Camera) or self._registry.cameras.get(answer.id) is answer:
            return
        self._unclaimed.append(answer)
        if not self._closed:
            self._scope.spawn(self._close_all_unclaimed(), name=f"close {answer.id}")

    async def _close_all_unclaimed(self) -> None:
        while self._unclaimed:
            camera = self._unclaimed.pop()
            try:
                await finish(camera.aclose())
            except AsynccamError as error:
                _LOG.info("%s was connected too late, and closing it failed: %s", camera.id, error)

    async def aclose(self) -> None:
        """Close what was connected and never added; to be called when nothing is asked any longer."""
        self._closed = True
        self._queries.close()
        await self._close_all_unclaimed()

    # -- adding cameras ---------------------------------------------------------------------------

    def add(self, camera: Camera, target: CameraTarget | None = None) -> Camera:
        """Add a camera to the session, and poll it from now on; return the one that is known by its id."""
        known = self._registry.adopt(camera, target)
        key = known.id
        self._removed.discard(key)
        self._unchecked.pop(key, None)
        self._addresses[key] = known.info.address
        if self._poll_interval is not None and _poll(key) not in self._scheduler:
            self._scheduler.schedule(
                _poll(key),
                lambda: self._poll_camera(key),
                lambda error: self._poll_failed(key, error),
                interval=self._poll_interval,
            )
        return known

    async def add_checked(
        self,
        camera: Camera,
        target: CameraTarget | None = None,
        *,
        credentials: Credentials | None,
        http_port: int | None,
    ) -> Camera:
        """Add a camera that has just answered, as `add`, or close it.

        Raises:
            UsageError: The one known by its id answers at another address: these are two devices.
        """
        async with finish_on_error(camera.aclose):
            await self._check_identity(camera, credentials, http_port)
        known = self.add(camera, target)
        if known is not camera:
            await finish(camera.aclose())
        return known

    async def _check_identity(
        self, camera: Camera, credentials: Credentials | None, http_port: int | None
    ) -> None:
        known = self._addresses.get(camera.id)
        if camera.id in self._registry.cameras and known and camera.info.address:
            await self._identities.check(
                known,
                camera,
                lambda address: self.connect(address, credentials, _IDENTITY_TIMEOUT, http_port),
            )

    def has_moved(self, camera: Camera) -> bool:
        """Return whether a camera that announces itself is known, and was at another address."""
        known = self._addresses.get(camera.id)
        if camera.id not in self._registry.cameras or not known:
            return False
        return not self._identities.is_at(camera, known)

    async def follow(self, camera: Camera) -> Camera | None:
        """Add a camera that announces itself from another address; return the known one.

        If another device announces the id, the known one stays, a `CameraFailed` reports it once, and None is
        returned. So it is if nothing answers at the new address yet, while the known one answers: mDNS
        announces once, so that the new address is kept, and tried whenever a poll of the known one fails.
        """
        address = camera.info.address
        try:
            if camera.id not in self._registry.unavailable or self._identities.is_duplicate(camera):
                await self._check_identity(camera, None, None)
        except AsynccamError as error:
            if self._registry.cameras.get(camera.id) is camera:  # discovery has moved it already
                adapter = adapter_of(camera.info.system)
                adapter.set_address(camera, Address.parse(self._addresses[camera.id]))
            if not isinstance(error, UsageError):
                if camera.id in self._registry.cameras:  # not removed meanwhile
                    self._unchecked[camera.id] = Address.parse(address)
            elif (camera.id, address) not in self._reported:
                self._reported.add((camera.id, address))
                self._emit(CameraFailed(camera=camera.id, step="connect", error=error))
            return None
        return self.add(camera)

    async def _follow_unchecked(self, key: str) -> None:
        """Follow an announcement that could not be checked, if the camera answers at the new address now."""
        address = self._unchecked.get(key)
        if address is None or self._take_of(key) is not None:  # a take stays with the device it started
            return
        try:
            camera = await self.connect(address, None, _IDENTITY_TIMEOUT)
        except AsynccamError:
            return
        try:
            if camera.id == key and key in self._registry.cameras:
                self.add(camera)
                self.retry_now(key)
        finally:
            await finish(camera.aclose())

    def remove(self, key: str) -> None:
        """Forget a camera or a target, and neither probe nor poll it any longer."""
        for name in (_probe(key), _poll(key)):
            self._scheduler.cancel(name)
            self._queries.drop(name)
        self._first_timeouts.pop(key, None)
        self._addresses.pop(key, None)
        self._unchecked.pop(key, None)
        self._identities.forget(key)
        self._reported = {(other, address) for other, address in self._reported if other != key}
        self._registry.forget(key)
        self._removed.add(key)

    # -- polling cameras --------------------------------------------------------------------------

    async def _poll_camera(self, key: str) -> None:
        if self._would_disturb_take(key) and key not in self._reconnected:
            return
        camera = self._registry.cameras[key]
        try:
            status = await self._queries.ask(
                _poll(key), lambda: retry(camera.status, attempts=2, backoff=_POLL_BACKOFF), key
            )
        except AsynccamError:
            await self._follow_unchecked(key)
            raise
        self._reconnected.discard(key)
        # A camera with Files records by itself. Another is recorded by this computer, so that in a take
        # its own word that it is idle says nothing of the recording.
        if self._take_of(key) is None or camera.supports(Files) or status.state not in _IDLE:
            self._registry.set_state(key, status.state, status.detail)
        elif key in self._registry.unavailable:
            self._registry.set_state(key, CameraState.UNKNOWN, "answers again")
        extra = self._queries.extra_timeout(_poll(key))
        if extra > 0 and self._poll_interval is not None:  # so that interval and timeout have the same sum
            sooner = max(self._poll_interval - extra, self._poll_interval / 2)
            self._scheduler.retry_within(_poll(key), sooner)

    def _poll_failed(self, key: str, error: Exception) -> None:
        if not self._would_disturb_take(key):
            self._registry.mark_failed(key, error)

    def _would_disturb_take(self, key: str) -> bool:
        """Return whether a poll would disturb a take: before T0, while it stops its cameras, or in `pause`.

        Some devices serve one connection at a time, and an armed start or a stop must have it.
        """
        if self._paused[key]:
            return True
        take = self._take_of(key)
        return take is not None and (take.state is not TakeState.RECORDING or key in take.awaited)

    @contextmanager
    def pause(self, keys: Collection[str]) -> Iterator[None]:
        """Do not poll these cameras during the block."""
        self._paused.update(keys)
        try:
            yield
        finally:
            self._paused -= Counter(keys)

    # -- news after which a retry may succeed -----------------------------------------------------

    def retry_now(self, key: str | None = None) -> None:
        """Retry a camera or a target now, or all that are unavailable."""
        if key is None:
            self._scheduler.retry_now()
        else:
            self._scheduler.retry_now(_probe(key))
            self._scheduler.retry_now(_poll(key))

    def on_event(self, event: Event) -> None:
        """Draw conclusions from an event of the session."""
        if isinstance(event, CameraLost):
            self._unchecked.pop(event.camera, None)
        if isinstance(event, ConnectionStateChanged):
            self._connection_changed(event)
        elif self._registry.on_event(event):
            self.retry_now(event.subject)
        elif isinstance(event, CameraFound) and event.camera not in self._registry.cameras:
            target = self._registry.service_target(event.camera)
            if target is not None:
                key = _probe(str(target.address))
                if key in self._scheduler:
                    self._scheduler.retry_now(key)
                else:
                    self.add_target(target)

    def _connection_changed(self, event: ConnectionStateChanged) -> None:
        """Make cameras unavailable with the connection to their service, and poll them once it is back."""
        behind = self._registry.cameras_behind(event.subject)
        if event.state is ConnectionState.LOST:
            why = f": {event.reason}" if event.reason else ""
            for key in behind:
                error = ConnectionError(f"the connection to {event.subject} is lost{why}")
                self._registry.mark_failed(key, error)
        elif event.state is ConnectionState.READY:
            self._reconnected.update(key for key in behind if _poll(key) in self._scheduler)
            for key in (*behind, event.subject):
                self.retry_now(key)

    def on_announcement(self, camera: Camera) -> None:
        """Retry the target at the address of a camera that announces itself, and the camera."""
        if camera.id in self._registry.unavailable:
            self._queries.restart(_poll(camera.id))
        self.retry_now(camera.id)
        target = self._registry.target_at(camera.info.address)
        if target is not None:
            self.retry_now(str(target.address))
