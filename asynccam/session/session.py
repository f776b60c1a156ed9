"""Session: owns the cameras and what they share, and ends all of it in order. See docs/take.md."""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from asynccam.errors import StateError, UsageError
from asynccam.model.address import Address
from asynccam.model.camera import Camera
from asynccam.model.credentials import Credentials
from asynccam.model.events import CameraChanged, CameraFailed, CameraFound, Event
from asynccam.model.info import CameraInfo
from asynccam.runtime.hub import Callback, E, EventHub, Subscription
from asynccam.runtime.tasks import TaskScope, finish
from asynccam.runtime.timing import deadline
from asynccam.session.discoveries import Discoveries, News
from asynccam.session.shared import SharedResources, time_server
from asynccam.session.wings import Means, load_wing, wing_of
from asynccam.take import Take, TakeLimits, TakeState, Verify

if TYPE_CHECKING:  # imported by SharedResources when first needed
    from aiohttp import ClientSession
    from zeroconf.asyncio import AsyncZeroconf

    from asynccam.net.mdns_sockets import Interfaces

_LOG = logging.getLogger(__name__)

_CLOSE_TIMEOUT: Final = 5.0
"""Seconds each camera, and each shared thing, has to close."""


class Session:
    """The cameras of one program, as an async context manager.

    One camera's failure is a `CameraFailed` event and disturbs no other. On exit running takes stop
    their cameras and bring home what exists, then cameras are closed, then the shared HTTP session
    and mDNS sockets; what was handed in is left open. One exception leaves the block as it is,
    several leave as an ``ExceptionGroup``.

    Args:
        http: HTTP session to share instead of an own one.
        zeroconf: mDNS sockets to share instead of own ones.
        interfaces: Where own mDNS sockets listen and speak; by default on all.
        ntp_server: ``HOST[:PORT]`` that T0 is taken from instead of this computer's clock.
        fail_fast: Whether the first failure of a camera ends the block: it is cancelled, and the
            camera's error is raised.
        shutdown_timeout: Seconds that running takes have on exit. Each camera and each shared thing
            then has up to five more to close.

    Attributes:
        events: Everything that happens; also by `subscribe`.
    """

    def __init__(
        self,
        *,
        http: "ClientSession | None" = None,
        zeroconf: "AsyncZeroconf | None" = None,
        interfaces: "Interfaces | None" = None,
        ntp_server: str | None = None,
        fail_fast: bool = False,
        shutdown_timeout: float = 60.0,
    ) -> None:
        self.events = EventHub("session")
        self._shared = SharedResources(http, zeroconf, interfaces)
        self._time_server = None if ntp_server is None else time_server(ntp_server)
        self._fail_fast = fail_fast
        self._shutdown_timeout = shutdown_timeout
        self._cameras: dict[str, Camera] = {}
        self._away: set[str] = set()
        self._takes: list[Take] = []
        self._scope = TaskScope("session", on_failure=self._task_failed)
        self._discoveries = Discoveries(self._shared, self._scope, self._heard)
        self._owner: asyncio.Task[Any] | None = None
        self._closed = False
        self._interrupted = False
        self._failures: list[Exception] = []

    # -- its life -------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._owner is not None:
            raise StateError("a session is entered once")
        self._owner = asyncio.current_task()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        leaving: BaseException | None = error
        try:
            await finish(self._close())
        except asyncio.CancelledError as late:
            leaving = late
        assert self._owner is not None
        ours = self._interrupted and self._owner.uncancel() == 0
        if isinstance(leaving, asyncio.CancelledError) and ours:
            leaving = None  # it was this session's own way of ending the block
        errors = [failure for failure in self._failures if failure is not leaving]
        if leaving is not None and not isinstance(leaving, Exception):
            for failure in errors:
                _LOG.error("while the session was closed", exc_info=failure)
            errors = []
        if leaving is error and error is not None and not errors:
            return
        everything = errors if leaving is None else [leaving, *errors]
        if len(everything) == 1:
            raise everything[0]
        if everything:
            raise BaseExceptionGroup("several things failed in the session", everything)

    async def _close(self) -> None:
        """Takes first, while their cameras still answer; then cameras; then what they share."""
        async with TaskScope("end of session") as scope:
            ends = {n: take.aclose(timeout=self._shutdown_timeout) for n, take in enumerate(self._takes)}
            for result in (await scope.gather(ends, name="take")).values():
                if isinstance(result, Exception):
                    self._failures.append(result)
            await scope.gather({key: self._close_camera(key) for key in self._cameras}, name="camera")
        self._cameras.clear()
        for closing in (self._scope.aclose(), self._shared.aclose(), self.events.aclose()):
            try:
                async with deadline(_CLOSE_TIMEOUT, "end of what the session owns"):
                    await closing
            except Exception as error:  # noqa: BLE001 - everything is closed before anything is raised
                self._failures.append(error)

    async def _close_camera(self, key: str) -> None:
        try:
            async with deadline(_CLOSE_TIMEOUT, f"end of {key}"):
                await self._cameras[key].aclose()
        except Exception as error:  # noqa: BLE001 - one camera's failure is an event
            self.emit(CameraFailed(camera=key, step="close", error=error))

    # -- cameras --------------------------------------------------------------------------------

    @property
    def cameras(self) -> Mapping[str, Camera]:
        """Every camera of the session by id; a live view. One that is away stays in it."""
        return MappingProxyType(self._cameras)

    async def connect(
        self,
        address: Address | str,
        *,
        credentials: Credentials | None = None,
        timeout: float = 15.0,
    ) -> Camera:
        """The camera at an address, such as ``multicam://127.0.0.1:8080``; needs no discovery.

        A camera that the session has already is returned, and follows to this address.

        Args:
            address: Where it is.
            credentials: For the services that want them; without, what their environment variables hold.
            timeout: Seconds it may take to answer.

        Raises:
            AddressError: Not an address, or of a system unknown here.
            AuthenticationError: The credentials are missing or wrong.
            ConnectionError, TimeoutError: Nobody answers.
            RemoteProtocolError: What answers is no such camera.
        """
        self._check_open()
        place = Address.parse(address) if isinstance(address, str) else address
        wing = await load_wing(place.system)
        async with deadline(timeout, f"answer from {place}"):
            camera = await wing.connect(place, self._means(credentials))
        if self._closed:
            await camera.aclose()
        self._check_open()
        held = self._adopt(camera)
        if held is not camera:
            await camera.aclose()
        return held

    async def cameras_behind(
        self, address: Address | str, *, credentials: Credentials | None = None, timeout: float = 15.0
    ) -> list[CameraInfo]:
        """Describe every camera behind the address of a service; they do not become the session's.

        Each description's ``address`` can be given to `connect`.

        Raises:
            As for `connect`.
        """
        self._check_open()
        place = Address.parse(address) if isinstance(address, str) else address
        wing = await load_wing(place.system)
        if wing.behind is None:
            return [(await self.connect(place, credentials=credentials, timeout=timeout)).info]
        async with deadline(timeout, f"answer from {place}"):
            return await wing.behind(place, self._means(credentials))

    async def connect_all(
        self,
        addresses: Iterable[Address | str],
        *,
        credentials: Credentials | None = None,
        timeout: float = 15.0,
    ) -> list[Camera]:
        """The cameras at several addresses, asked side by side, in the same order.

        Raises:
            ExceptionGroup: More than one could not be reached; a single error is raised as it is.
                The others are in the session all the same.
        """
        places = list(addresses)
        jobs = {
            number: self.connect(place, credentials=credentials, timeout=timeout)
            for number, place in enumerate(places)
        }
        results = await self._scope.gather(jobs, name="connect")
        errors = [result for result in results.values() if isinstance(result, Exception)]
        if len(errors) > 1:
            raise ExceptionGroup(f"{len(errors)} of {len(places)} cameras could not be reached", errors)
        if errors:
            raise errors[0]
        return [result for result in results.values() if isinstance(result, Camera)]

    async def discover(
        self, *, timeout: float = 5.0, systems: Sequence[str] | None = None, count: int | None = None
    ) -> list[Camera]:
        """Look for cameras on the network; they become the session's and are not contacted yet.

        Looking goes on until the session ends: cameras that appear, move or say goodbye later are
        `CameraFound`, `CameraChanged` and `CameraLost` events, and those that move are followed.

        Args:
            timeout: Seconds to wait.
            systems: Only these systems.
            count: Return as soon as so many cameras are there.

        Returns:
            The cameras that are there now.

        Raises:
            UsageError: A system is unknown, or cannot be discovered.
            ConnectionError: mDNS cannot be opened.
        """
        self._check_open()
        there = await self._discoveries.look(systems, count, timeout)
        self._check_open()
        return [self._adopt(camera) for camera in there]

    def add(self, camera: Camera) -> None:
        """Make a camera the session's, to be closed with it; for systems of one's own.

        Raises:
            UsageError: The session has another camera of that id.
        """
        self._check_open()
        if self._cameras.setdefault(camera.id, camera) is not camera:
            raise UsageError(f"the session has another camera {camera.id}")
        self.emit(CameraFound(camera=camera.id, info=camera.info))

    async def remove(self, camera: Camera | str) -> None:
        """Close a camera and forget it.

        Raises:
            UsageError: It is not in the session.
        """
        key = camera if isinstance(camera, str) else camera.id
        if key not in self._cameras:
            raise UsageError(f"{key} is not in the session")
        await self._close_camera(key)
        self._cameras.pop(key, None)
        self._away.discard(key)

    # -- takes ----------------------------------------------------------------------------------

    async def take(
        self,
        cameras: Sequence[Camera] | None = None,
        *,
        duration: float,
        directory: str | Path,
        start_in: float = 3.0,
        name: str | None = None,
        limits: TakeLimits | None = None,
        verify: Verify | None = None,
    ) -> Take:
        """Record with several cameras at once and bring every file home; see `Take.run` and `new_take`.

        Args:
            cameras: The cameras; by default all of the session that have not said goodbye.
            duration: Seconds from T0 to the stop.
            directory: Where takes are kept; this one becomes a new directory in it.
            start_in: Seconds from the moment all are armed to T0.
            name: The take's name; by default the time.
            limits: Bounds of every wait.
            verify: Looks into each file that arrived.

        Returns:
            The take, ended: see `Take.ok` and `Take.manifest` for how.
        """
        take = self.new_take(cameras, directory, name=name, limits=limits, verify=verify)
        return await take.run(duration=duration, start_in=start_in)

    def new_take(
        self,
        cameras: Sequence[Camera] | None = None,
        directory: str | Path = ".",
        *,
        name: str | None = None,
        limits: TakeLimits | None = None,
        verify: Verify | None = None,
    ) -> Take:
        """A take to go through step by step; wound up with the session if it has not ended by then.

        Args: as for `take`.

        Raises:
            UsageError: There are no cameras, or one is named twice.
        """
        self._check_open()
        take = Take(
            self._present() if cameras is None else cameras,
            directory,
            name=name,
            limits=limits,
            time_server=self._time_server,
            verify=verify,
            emit=self.emit,
        )
        self._takes = [*(one for one in self._takes if one.state is not TakeState.DONE), take]
        return take

    # -- events ---------------------------------------------------------------------------------

    def subscribe(self, callback: Callback[E], *types: type[E], maxsize: int = 4096) -> Subscription:
        """Call back for every event of the given types; see `EventHub.subscribe`."""
        return self.events.subscribe(callback, *types, maxsize=maxsize)

    def emit(self, event: Event) -> None:
        """Tell everyone who listens. With ``fail_fast``, a `CameraFailed` ends the session."""
        self.events.emit(event)
        if isinstance(event, CameraFailed) and self._fail_fast:
            self._interrupt(event.error)

    # -- what cameras share ---------------------------------------------------------------------

    @property
    def http(self) -> "ClientSession":
        """The shared HTTP session, made at its first use.

        Raises:
            StateError: The session is not open.
        """
        self._check_open()
        return self._shared.http()

    # -- helpers --------------------------------------------------------------------------------

    def _present(self) -> list[Camera]:
        return [camera for key, camera in self._cameras.items() if key not in self._away]

    def _heard(self, camera: Camera | None, event: News) -> None:
        if self._closed:
            return
        if camera is None:
            self._away.add(event.camera)
            self.emit(event)
            return
        is_here = self._cameras.get(camera.id) is camera and camera.id not in self._away
        self._adopt(camera)
        if is_here:  # discovery has moved it already, so that nothing was left to do and to tell
            self.emit(event)

    def _adopt(self, camera: Camera) -> Camera:
        """Take a camera in, or let the one that is here already follow to where it is."""
        new = camera.id not in self._cameras or camera.id in self._away
        held = self._cameras.setdefault(camera.id, camera)
        before = held.info.address
        if held is not camera:
            wing_of(camera.info.system).follow(held, camera)
        self._away.discard(camera.id)
        if new:
            self.emit(CameraFound(camera=held.id, info=held.info))
        elif held.info.address != before:
            self.emit(CameraChanged(camera=held.id, info=held.info))
        return held

    def _means(self, credentials: Credentials | None) -> Means:
        return Means(credentials or Credentials(), self._shared, self.events)

    def _check_open(self) -> None:
        if self._owner is None or self._closed:
            raise StateError("a session works inside its 'async with' block")

    def _task_failed(self, name: str, error: Exception) -> None:
        _LOG.error("%s failed", name, exc_info=error)
        if self._fail_fast:
            self._interrupt(error)

    def _interrupt(self, error: Exception) -> None:
        """End the block by cancelling it, as a task group does; the error is raised at its end."""
        self._failures.append(error)
        if not self._closed and not self._interrupted and self._owner is not None:
            self._interrupted = True
            self._owner.cancel()
