"""Session: the cameras of one program, what they share, and their shutdown. See docs/fleet.md."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, Unpack

from asynccam.errors import ConnectionError, StateError, TimeoutError, UsageError
from asynccam.model.address import Address
from asynccam.model.camera import Camera
from asynccam.model.credentials import Credentials
from asynccam.model.digest import DigestName
from asynccam.model.events import (
    CameraFailed,
    CameraLost,
    ClockStepped,
    Event,
    ProgramPaused,
    RecordingStarted,
    RecordingStopped,
)
from asynccam.model.info import CameraInfo
from asynccam.model.systems import system_of
from asynccam.redaction import loggable
from asynccam.runtime.event_hub import Callback, Cameras, E, EventHub, Subscription
from asynccam.runtime.retry import Backoff, RetryScheduler
from asynccam.runtime.tasks import TaskScope, finish
from asynccam.runtime.timing import ClockWatch, deadline
from asynccam.session.discovery import DiscoveryEvent, DiscoveryManager
from asynccam.session.fleet import Fleet
from asynccam.session.presence import PresenceMonitor
from asynccam.session.registry import CameraRegistry
from asynccam.session.shared import SessionContext, SessionSettings, SharedResources, time_server
from asynccam.session.targets import CameraTarget, Unavailable, as_targets, check_http_port
from asynccam.systems import ConnectContext
from asynccam.systems.registry import load_adapter
from asynccam.take import FileCheck, Take, TakeLimits, TakeState

if TYPE_CHECKING:  # imported by SharedResources when first needed
    from aiohttp import ClientSession
    from zeroconf.asyncio import AsyncZeroconf

    from asynccam.net.mdns import Interfaces

_LOG = logging.getLogger(__name__)

_CLOSE_TIMEOUT: Final = 10.0
"""Seconds a camera has to close when it is removed."""
_GRACE: Final = 0.1
"""Fraction of a step's time that is reserved for cancelled tasks to finish."""
_MAX_GRACE: Final = 2.0
"""Seconds."""


class Session:
    """Cameras of one program, as an async context manager.

    One camera's failure is a `CameraFailed` event and disturbs no other. On exit running takes stop their
    cameras and download what exists, then cameras are closed, then what they shared; what was passed in is
    left open. One exception leaves the block as it is, several leave as an ``ExceptionGroup``.

    Args:
        http: HTTP session to share instead of an own one.
        zeroconf: mDNS sockets to share instead of own ones.
        interfaces: Interfaces of own mDNS sockets; by default all.
        ntp_server: ``HOST[:PORT]`` that T0 is taken from instead of this computer's clock.
        fail_fast: Cancel the block at the first failure of a camera, and raise the camera's error.
        shutdown_timeout: Seconds that leaving may take in all. The last fifth, at most ten seconds, is for
            closing; running takes have the rest. What hangs is abandoned and named in a `CameraFailed`.
        poll_interval: Seconds between two polls of each camera's status, which report changes of its state
            and make it `unavailable` when it does not answer; None not to poll.
        backoff: Waits between tries to reach an unavailable camera; by default from one second to
            ``poll_interval``, or to half a minute if that is shorter.

    Attributes:
        events: Hub of every event; see also `subscribe`.

    Raises:
        UsageError: A setting is out of range.
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
        poll_interval: float | None = 10.0,
        backoff: Backoff | None = None,
    ) -> None:
        if not shutdown_timeout > 0:
            raise UsageError(f"shutdown_timeout must be > 0 seconds, not {shutdown_timeout}")
        if poll_interval is not None and not poll_interval > 0:
            raise UsageError(f"poll_interval must be > 0 seconds, or None not to poll; not {poll_interval}")
        self.events = EventHub("session", on_state=self._on_event)
        self._fail_fast = fail_fast
        self._shutdown_timeout = shutdown_timeout
        self._polls = poll_interval is not None
        self._reference = None if ntp_server is None else time_server(ntp_server)
        # The block, and how it ends.
        self._owner: asyncio.Task[Any] | None = None
        self._cancelling = 0
        self._interrupted = False
        self._closed = False
        self._failures: list[Exception] = []
        # Cameras.
        self._shared = SharedResources(http, zeroconf, interfaces)
        self._scope = TaskScope("session", on_failure=self._task_failed)
        self._registry = CameraRegistry(self.events, self.emit)
        self._presence = PresenceMonitor(
            self._registry,
            RetryScheduler(self._scope, backoff or _default_backoff(poll_interval)),
            self._scope,
            self._context,
            self.take_of,
            self.emit,
            poll_interval,
        )
        self._discovery = DiscoveryManager(self._shared, self._scope, self._on_announcement)
        self._clocks: ClockWatch | None = None
        # Takes that have not ended, with the ids of their cameras, and the latest event of each camera.
        self._takes: list[tuple[Take, frozenset[str]]] = []
        self._take_events: dict[str, Event] = {}

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        *at: CameraTarget | Address | str,
        cameras: Mapping[str, CameraTarget | Address | str] | None = None,
        fleet: Fleet | Path | str | None = None,
        credentials: Credentials | None = None,
        timeout: float = 5.0,
        mdns: bool = True,
        **settings: Unpack[SessionSettings],
    ) -> AsyncIterator[Self]:
        """Open a session with the cameras at these addresses, and retry those that are `unavailable`.

        ``async with Session.open("multicam://hill", "mediamtx://host:8002", fleet="fleet.toml") as session:``

        The block begins once every address has answered or failed to, or after ``timeout`` seconds.
        The address of a service without a camera stands for all cameras behind it, also those that are added
        later. See docs/fleet.md.

        Args:
            at: Addresses.
            cameras: More addresses, by label; see `camera`.
            fleet: More of both, and settings, from a file or as read before.
            credentials: For the services among ``at`` and ``cameras`` that need them and are given as
                addresses; a `CameraTarget` has its own.
            timeout: Seconds to wait for cameras before the block begins.
            mdns: Listen to cameras that announce themselves, and so notice sooner that one is available
                again, or has moved. No others are added.
            settings: As for `Session`; they override those of the fleet.

        Raises:
            AddressError: An address is invalid, or of an unknown system.
            UsageError: An address or a label is given twice, or a setting is out of range.
            FleetError: The fleet's file is invalid; the error has the lines.
            StorageError: The file, or a file with a secret, cannot be read.
        """
        plan = await Fleet.load(fleet) if isinstance(fleet, (str, Path)) else fleet or Fleet()
        targets = as_targets((*plan.places, *at), cameras or {}, credentials)
        merged: SessionSettings = {**plan.settings(), **settings}
        async with cls(**merged) as session:
            probed = {
                str(target.address): session._presence.add_target(target, timeout) for target in targets
            }
            if mdns and plan.mdns:
                await session._listen({target.address.system for target in targets})
            await session._presence.wait_probed(probed, timeout)
            yield session

    # -- entering and leaving ---------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._owner is not None:
            raise StateError("a session is entered once")
        self._owner = asyncio.current_task()
        # As in asyncio.timeout: the task may have been cancelled before, and have continued.
        self._cancelling = 0 if self._owner is None else self._owner.cancelling()
        if self._polls:
            self.watch_clocks()
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
        # As a task group does: the cancellation is ours only if there was no other one.
        ours = self._interrupted and self._owner.uncancel() <= self._cancelling
        if isinstance(leaving, asyncio.CancelledError) and ours:
            leaving = None
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
        """Start nothing new, end takes while their cameras still answer, close cameras, then what they share.

        What fails is added to ``_failures``, or emitted where it is a camera.
        """
        if self._clocks is not None:
            self._clocks.stop()
        shutdown = _Shutdown(self._shutdown_timeout)
        closing = min(self._shutdown_timeout / 5, 10.0)  # seconds for all but the takes
        # Each step leaves a share of that to the ones after it, so that one that hangs does not starve them.
        reserve = shutdown.reserve_after(closing / 4)
        self._failures += (await shutdown.run({"search": self._scope.aclose()}, reserve=reserve)).values()
        timeout = max(shutdown.remaining - closing, 0.0)
        takes = {
            f"take {number} {take.name}": _end_take(take, timeout, abort_after=timeout + closing * 0.2)
            for number, (take, _) in enumerate(self._takes, 1)
        }
        self._failures += (await shutdown.run(takes, reserve=closing * 0.4)).values()
        cameras = {key: camera.aclose() for key, camera in self._registry.cameras.items()}
        cameras["cameras that were not added"] = self._presence.aclose()
        reserve = shutdown.reserve_after(closing * 0.8)
        for key, error in (await shutdown.run(cameras, reserve=reserve)).items():
            self.emit(CameraFailed(camera=key, step="close", error=error))
        self._registry.cameras.clear()
        await shutdown.run({"events": self.events.drain()}, reserve=shutdown.reserve_after(closing * 0.1))
        for jobs in (
            self._shared.close_shared(),
            {"HTTP session": self._shared.close_http(), "mDNS sockets": self._shared.close_mdns()},
            {"events": self.events.aclose()},
        ):
            reserve = shutdown.reserve_after(closing / 2)
            self._failures += (await shutdown.run(jobs, reserve=reserve)).values()

    def _check_open(self) -> None:
        if self._owner is None or self._closed:
            raise StateError("a session works inside its 'async with' block")

    def _interrupt(self, error: Exception) -> None:
        """Cancel the block, as a task group does; the error is raised at its end."""
        self._failures.append(error)
        if not self._closed and not self._interrupted and self._owner is not None:
            self._interrupted = True
            self._owner.cancel()

    def _task_failed(self, name: str, error: Exception) -> None:
        _LOG.error("%s failed", name, exc_info=error)
        if self._fail_fast:
            self._interrupt(error)

    # -- cameras ----------------------------------------------------------------------------------

    @property
    def cameras(self) -> Mapping[str, Camera]:
        """Every camera of the session by id; a live view. One that becomes unavailable stays in it."""
        return MappingProxyType(self._registry.cameras)

    @property
    def unavailable(self) -> Mapping[str, Unavailable]:
        """Cameras that do not answer now, by id, and why; a live view. They stay in `cameras`.

        An address at which no camera has answered yet is here by itself, and is not in `cameras`.
        """
        return MappingProxyType(self._registry.unavailable)

    @property
    def labels(self) -> Mapping[str, str]:
        """Ids of cameras by the labels they were given."""
        return self._registry.labels()

    def place_of(self, camera: str) -> str:
        """Return the address that was given for a camera, or for its service; ``""`` if none was."""
        return self._registry.target_address(camera)

    def expects(self, camera: str, *addresses: str) -> bool:
        """Return whether the session has a camera of this id, or may still add it.

        It may if it probes one of the addresses (of a target, or where the camera was reached), or adds all
        cameras of its system that announce themselves.
        """
        if camera in self.cameras or self._discovery.adds_all(camera.partition("://")[0]):
            return True
        return any(self._registry.target_at(address) for address in (camera, *addresses) if address)

    def camera(self, name: str) -> Camera:
        """Return the camera with this id or label, or the only one of this name.

        Raises:
            ConnectionError: No camera has answered yet at the address with this label.
            UsageError: There is no such camera, or there are several.
        """
        return self._registry.camera(name)

    def group(self, name: str) -> list[Camera]:
        """Return the cameras of a group that have answered.

        Raises:
            UsageError: No target has this group.
        """
        return self._registry.group(name)

    def credentials_at(self, address: Address) -> Credentials | None:
        """Return the credentials of a target at the host and port of an address; None without such a target.

        Targets are the addresses of `open`, `add_address` and a fleet.
        """
        for target in self._registry.targets.values():
            known = target.address
            if (known.system, known.host, known.port) == (address.system, address.host, address.port):
                return target.credentials
        return None

    async def connect(
        self,
        address: Address | str,
        *,
        credentials: Credentials | None = None,
        http_port: int | None = None,
        timeout: float = 15.0,
    ) -> Camera:
        """Connect to the camera at an address, such as ``multicam://127.0.0.1:8080``, without discovery.

        A camera that the session has already is returned, and is reached at this address from now on.

        Args:
            address: Address of one camera.
            credentials: For the services that need them; by default from their environment variables.
            http_port: Port of a MediaMTX service's file server, likewise.
            timeout: Seconds to wait for the answer.

        Raises:
            AddressError: The address is invalid, or of an unknown system.
            UsageError: ``http_port`` is not a valid port, or the system has no file server; or two devices
                have one id.
            AuthenticationError: The credentials are missing or wrong.
            ConnectionError, TimeoutError: There is no answer.
            RemoteProtocolError: The answer is not one of such a camera.
        """
        self._check_open()
        address = Address.parse(address) if isinstance(address, str) else address
        if http_port is not None:
            check_http_port(address, http_port)
        camera = await self._presence.connect(address, credentials, timeout, http_port)
        if self._closed:
            await finish(camera.aclose())
        self._check_open()
        return await self._presence.add_checked(camera, credentials=credentials, http_port=http_port)

    async def connect_each(
        self,
        addresses: Iterable[Address | str],
        *,
        credentials: Credentials | None = None,
        timeout: float = 15.0,
    ) -> "list[Camera | Exception]":
        """Connect to several addresses side by side; return each camera or its error, in the same order."""
        jobs = {
            index: self.connect(address, credentials=credentials, timeout=timeout)
            for index, address in enumerate(addresses)
        }
        results = await self._scope.gather(jobs, name="connect")
        return list(results.values())

    async def connect_all(
        self,
        addresses: Iterable[Address | str],
        *,
        credentials: Credentials | None = None,
        timeout: float = 15.0,
    ) -> list[Camera]:
        """Connect to several addresses side by side; return the cameras in the same order.

        Raises:
            ExceptionGroup: More than one could not be reached; a single error is raised as it is.
                The others are in the session all the same.
        """
        results = await self.connect_each(addresses, credentials=credentials, timeout=timeout)
        errors = [result for result in results if isinstance(result, Exception)]
        if len(errors) > 1:
            raise ExceptionGroup(f"{len(errors)} of {len(results)} cameras could not be reached", errors)
        if errors:
            raise errors[0]
        return [result for result in results if isinstance(result, Camera)]

    async def list_cameras(
        self, address: Address | str, *, credentials: Credentials | None = None, timeout: float = 15.0
    ) -> list[CameraInfo]:
        """Describe every camera behind the address of a service, without adding them to the session.

        Each description's ``address`` can be given to `connect`.

        Raises:
            As for `connect`.
        """
        self._check_open()
        address = Address.parse(address) if isinstance(address, str) else address
        adapter = await load_adapter(address.system)
        if not system_of(address.system).is_service:
            return [(await self.connect(address, credentials=credentials, timeout=timeout)).info]
        async with deadline(timeout, f"answer from {address}"):
            return await adapter.list_cameras(address, self._context(credentials, None))

    async def add_address(self, place: CameraTarget | Address | str, *, timeout: float = 5.0) -> None:
        """Probe one more address, as `open` does; it is `unavailable` and retried until a camera answers.

        Args:
            place: Address, or target.
            timeout: Seconds to wait for the end of the first probe, which goes on afterwards.

        Raises:
            AddressError: The address is invalid, or of an unknown system.
            UsageError: The session probes it already, or has another camera of that label.
        """
        self._check_open()
        (target,) = as_targets((place,), {}, None)
        as_targets((*self._registry.targets.values(), target), {}, None)
        probed = {str(target.address): self._presence.add_target(target, timeout)}
        await self._presence.wait_probed(probed, timeout)

    def retry_now(self, camera: str | None = None) -> None:
        """Retry a camera or an address now, or all that are unavailable.

        Credentials that were refused are retried by this only.
        """
        self._presence.retry_now(camera)

    async def discover(
        self, *, timeout: float = 5.0, systems: Sequence[str] | None = None, count: int | None = None
    ) -> list[Camera]:
        """Search the network for cameras and add them to the session, without contacting them yet.

        The search goes on until the session ends: cameras that appear, move or leave later are `CameraFound`,
        `CameraChanged` and `CameraLost` events, and those that move are followed.

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
        found = await self._discovery.search(systems, count, timeout)
        self._check_open()
        added: list[Camera] = []
        for camera in found:
            moved = self._presence.has_moved(camera)
            known = await self._presence.follow(camera) if moved else self._presence.add(camera)
            if known is not None:
                added.append(known)
        self._check_open()
        return added

    def add(self, camera: Camera) -> None:
        """Add a camera to the session, which closes it at its end; for systems of one's own.

        Raises:
            UsageError: The session has another camera of that id.
        """
        self._check_open()
        if self.cameras.get(camera.id, camera) is not camera:
            raise UsageError(f"the session has another camera {camera.id}")
        self._presence.add(camera)

    async def remove(self, camera: Camera | str) -> None:
        """Close a camera and forget it, which is a `CameraLost`, or stop probing an address.

        Raises:
            UsageError: The camera or address is not in the session.
        """
        key = camera if isinstance(camera, str) else camera.id
        known = self.cameras.get(key)
        if known is None and key not in self._registry.targets:
            raise UsageError(f"{key} is not in the session")
        self._presence.remove(key)
        if known is not None:
            self.emit(CameraLost(camera=key))
            self.events.forget(key)
            shutdown = _Shutdown(min(self._shutdown_timeout, _CLOSE_TIMEOUT))
            errors = await finish(shutdown.run({key: known.aclose()}))
            for error in errors.values():
                self.emit(CameraFailed(camera=key, step="close", error=error))

    def _context(self, credentials: Credentials | None, http_port: int | None) -> ConnectContext:
        return SessionContext(credentials or Credentials(), self.events, self._shared, http_port)

    async def _listen(self, systems: set[str]) -> None:
        """Listen to what cameras of these systems announce; the session works without mDNS as well."""
        for system in systems:
            if system_of(system).discoverable:
                try:
                    await self._discovery.listen(system)
                except ConnectionError as error:
                    _LOG.warning("announcements of %s cameras are not received: %s", system, error)

    def _on_announcement(self, camera: Camera | None, event: DiscoveryEvent, add: bool) -> None:
        """Handle an announcement, or a goodbye if ``camera`` is None; ``add`` cameras that are new."""
        is_known = event.camera in self.cameras
        if self._closed:
            return
        if camera is None:
            if is_known or add:
                self.emit(event)
        elif not is_known and not add:
            self._presence.on_announcement(camera)
        elif self._presence.has_moved(camera):
            self._scope.spawn(self._follow(camera, event), name=f"follow {camera.id}")
        else:
            is_current = self._is_current(camera)
            self._presence.add(camera)
            self._announced(camera, event, is_current)

    async def _follow(self, camera: Camera, event: DiscoveryEvent) -> None:
        """Follow a camera to its new address, unless that is another device with its id."""
        is_current = self._is_current(camera)
        if await self._presence.follow(camera) is not None and not self._closed:
            self._announced(camera, event, is_current)

    def _is_current(self, camera: Camera) -> bool:
        return self.cameras.get(camera.id) is camera and camera.id not in self.unavailable

    def _announced(self, camera: Camera, event: DiscoveryEvent, is_current: bool) -> None:
        self._presence.on_announcement(camera)
        if is_current:  # discovery has moved this very object, so that the registry saw no change to report
            self.emit(event)

    # -- takes ------------------------------------------------------------------------------------

    async def take(
        self,
        cameras: Sequence[Camera] | None = None,
        *,
        duration: float,
        directory: str | Path,
        start_in: float = 3.0,
        name: str | None = None,
        limits: TakeLimits | None = None,
        verify: FileCheck | None = None,
        digest: DigestName | None = "sha256",
    ) -> Take:
        """Record with several cameras at once and download every file; see `Take.run` and `new_take`.

        Args:
            cameras: By default all of the session that are available. The unavailable ones are then missing
                in the manifest, and the take is not complete.
            duration: Seconds from T0 to the stop.
            directory: Parent of the take's new directory.
            start_in: Seconds from the moment all are armed to T0.
            name: The take's name; by default the time.
            limits: Bounds of every wait.
            verify: Checks each downloaded file.
            digest: Algorithm of the files' digests, as of `Take`.

        Returns:
            The take, ended: see `Take.ok` and `Take.manifest` for the result.
        """
        take = self.new_take(cameras, directory, name=name, limits=limits, verify=verify, digest=digest)
        return await take.run(duration=duration, start_in=start_in)

    def new_take(
        self,
        cameras: Sequence[Camera] | None = None,
        directory: str | Path = ".",
        *,
        name: str | None = None,
        limits: TakeLimits | None = None,
        verify: FileCheck | None = None,
        missing: Mapping[str, Unavailable] | None = None,
        digest: DigestName | None = "sha256",
    ) -> Take:
        """Return a take to run step by step; the session ends it if it has not ended by then.

        Args: as for `take`, and
            missing: Entries of `unavailable` that should have been among ``cameras``. The manifest names
                them, and the take is not complete. Without ``cameras`` they are all that are `unavailable`.

        Raises:
            UsageError: There are no cameras, or one is named twice; or the digest's package is missing.
        """
        self._check_open()
        chosen = self._registry.available() if cameras is None else cameras
        absent = self._registry.missing() if cameras is None and missing is None else missing or {}
        take = Take(
            chosen,
            directory,
            name=name,
            limits=limits,
            time_server=self._reference,
            verify=verify,
            emit=self._emit_of_take,
            labels={key: label for label, key in self.labels.items()},
            missing=[self._registry.missing_record(key, entry) for key, entry in absent.items()],
            digest=digest,
        )
        self._takes = [entry for entry in self._takes if entry[0].state is not TakeState.DONE]
        self._takes.append((take, frozenset(camera.id for camera in chosen)))
        return take

    def take_of(self, camera: Camera | str) -> Take | None:
        """Return the take of this session that has begun, has not ended and has this camera, or None."""
        key = camera if isinstance(camera, str) else camera.id
        idle = (TakeState.NEW, TakeState.DONE)
        return next((take for take, ids in self._takes if key in ids and take.state not in idle), None)

    def _emit_of_take(self, event: Event) -> None:
        """Emit an event of a take, unless the session or the camera's client has reported the same.

        The client of a service reports all recordings by itself, and before the answer to a start or a stop
        arrives. Most devices never report anything.
        """
        if isinstance(event, (RecordingStarted, RecordingStopped)):
            latest = self.events.latest(type(event), event.camera)
            if latest is not None and latest is not self._take_events.get(event.camera):
                return
            self._take_events[event.camera] = event
        if not (self.watches_clocks and isinstance(event, (ClockStepped, ProgramPaused))):
            self.emit(event)

    # -- events -----------------------------------------------------------------------------------

    def emit(self, event: Event) -> None:
        """Emit an event to all subscribers. With ``fail_fast``, a `CameraFailed` ends the session."""
        if _LOG.isEnabledFor(logging.DEBUG):
            _LOG.debug("event %s", loggable(event))
        self.events.emit(event)
        if isinstance(event, CameraFailed) and self._fail_fast:
            self._interrupt(event.error)

    def subscribe(
        self,
        callback: Callback[E],
        *types: type[E],
        camera: Cameras | None = None,
        replay: bool = False,
        maxsize: int = 4096,
    ) -> Subscription:
        """Call back for every event of the given types and cameras; see `EventHub.subscribe`."""
        return self.events.subscribe(callback, *types, camera=camera, replay=replay, maxsize=maxsize)

    async def wait_for(
        self,
        *types: type[E],
        camera: Cameras | None = None,
        timeout: float | None = None,
        where: Callable[[E], bool] | None = None,
        replay: bool = False,
    ) -> E:
        """Return the next event of the given types and cameras; see `EventHub.wait_for` for the errors."""
        return await self.events.wait_for(*types, camera=camera, timeout=timeout, where=where, replay=replay)

    @property
    def polls(self) -> bool:
        """True if the session polls its cameras' status (``poll_interval``)."""
        return self._polls

    def pause_polling(self, cameras: Collection[str]) -> AbstractContextManager[None]:
        """Do not poll the cameras with these ids during the block: some serve one connection at a time.

        A take of this session does so by itself, and `resume_take` too.
        """
        return self._presence.pause(cameras)

    def watch_clocks(self) -> None:
        """Emit `ClockStepped` and `ProgramPaused` until the session ends; harmless when called twice.

        A session that polls its cameras does so by itself.

        Raises:
            StateError: The session is not open.
        """
        self._check_open()
        if self._clocks is None:
            self._clocks = ClockWatch(self._on_clock_event)
            self._clocks.start()

    @property
    def watches_clocks(self) -> bool:
        """True if the session emits `ClockStepped` and `ProgramPaused` by itself."""
        return self._clocks is not None

    def _on_event(self, event: Event) -> None:
        if not self._closed:
            self._presence.on_event(event)

    def _on_clock_event(self, event: ClockStepped | ProgramPaused) -> None:
        if isinstance(event, ClockStepped):
            _LOG.warning("this computer's clock was set by %+.3f s", event.seconds)
        else:
            _LOG.warning("the program did not run for %.2f s", event.seconds)
        self.emit(event)

    # -- shared resources -------------------------------------------------------------------------

    @property
    def http(self) -> "ClientSession":
        """Shared HTTP session, made at its first use.

        Raises:
            StateError: The session is not open.
        """
        self._check_open()
        return self._shared.http()


def _default_backoff(poll_interval: float | None) -> Backoff:
    """Return waits that notice an available camera as soon as an unavailable one."""
    longest = 30.0 if poll_interval is None else min(30.0, poll_interval)
    return Backoff(initial=min(1.0, longest), maximum=longest)


async def _end_take(take: Take, timeout: float, *, abort_after: float) -> None:
    late = asyncio.get_running_loop().call_later(abort_after, take.abort)
    try:
        await take.aclose(timeout=timeout)
    finally:
        late.cancel()


class _Shutdown:
    """One deadline, ``timeout`` seconds from now, for several steps."""

    def __init__(self, timeout: float) -> None:
        self._deadline = asyncio.get_running_loop().time() + timeout

    @property
    def remaining(self) -> float:
        """Seconds to the deadline."""
        return max(self._deadline - asyncio.get_running_loop().time(), 0.0)

    def reserve_after(self, seconds: float) -> float:
        """Return the seconds left to later steps if the next one gets ``seconds``, or 3/4 of all if less."""
        return max(self.remaining - seconds, self.remaining / 4)

    async def run(
        self, jobs: Mapping[str, Coroutine[Any, Any, object]], *, reserve: float = 0.0
    ) -> dict[str, Exception]:
        """Run jobs side by side until they end, or ``reserve`` seconds before the deadline.

        A job that is late is cancelled. One that ignores its cancellation is left running, and its error says
        so. Returns the errors by name.
        """
        seconds = max(self.remaining - reserve, 0.0)
        scope = TaskScope("end of session", on_failure=lambda name, error: None)
        tasks = {name: scope.spawn(job, name=name) for name, job in jobs.items()}
        grace = min(seconds * _GRACE, _MAX_GRACE)
        if tasks:
            await asyncio.wait(tasks.values(), timeout=seconds - grace)
        late = {name for name, task in tasks.items() if not task.done()}
        with suppress(TimeoutError):  # reported below, one by one
            await scope.aclose(timeout=grace)
        errors: dict[str, Exception] = {}
        for name, task in tasks.items():
            if not task.done():
                errors[name] = TimeoutError(f"{name} ignores its cancellation; it is left behind")
            elif name in late:
                errors[name] = TimeoutError(f"{name} did not end in time")
            elif not task.cancelled() and isinstance(error := task.exception(), Exception):
                errors[name] = error
        return errors
