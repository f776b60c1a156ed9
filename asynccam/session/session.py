"""Session: owns the cameras and what they share, and ends all of it in order. See docs/fleet.md."""

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypedDict, Unpack

from asynccam.errors import UsageError
from asynccam.model.address import Address
from asynccam.model.camera import Camera
from asynccam.model.credentials import Credentials
from asynccam.model.events import CameraFailed, ClockStepped, Event, ProgramPaused
from asynccam.runtime.hub import Callback, Cameras, E, Subscription
from asynccam.runtime.retry import Backoff
from asynccam.session.company import Company
from asynccam.session.fleet import Fleet
from asynccam.session.shared import SharedResources, time_server
from asynccam.session.shutdown import Shutdown
from asynccam.session.takes import Takes
from asynccam.session.targets import CameraTarget, Unavailable, places
from asynccam.take import FileCheck, Take, TakeLimits

if TYPE_CHECKING:  # imported by SharedResources when first needed
    from aiohttp import ClientSession
    from zeroconf.asyncio import AsyncZeroconf

    from asynccam.net.mdns import Interfaces

_LOG = logging.getLogger(__name__)


class Settings(TypedDict, total=False):
    """What `Session` takes, for `Session.open` to hand on."""

    http: "ClientSession | None"
    zeroconf: "AsyncZeroconf | None"
    interfaces: "Interfaces | None"
    ntp_server: str | None
    fail_fast: bool
    shutdown_timeout: float
    poll_interval: float | None
    backoff: Backoff | None


class Session(Company):
    """The cameras of one program, as an async context manager.

    One camera's failure is a `CameraFailed` event and disturbs no other. On exit running takes stop
    their cameras and bring home what exists, then cameras are closed, then what they shared; what was
    handed in is left open. One exception leaves the block as it is, several leave as an
    ``ExceptionGroup``.

    Args:
        http: HTTP session to share instead of an own one.
        zeroconf: mDNS sockets to share instead of own ones.
        interfaces: Where own mDNS sockets listen and speak; by default on all.
        ntp_server: ``HOST[:PORT]`` that T0 is taken from instead of this computer's clock.
        fail_fast: Whether the first failure of a camera ends the block: it is cancelled, and the
            camera's error is raised.
        shutdown_timeout: Seconds that leaving may take in all. Takes that run then have the time but
            for its last fifth, at most ten seconds, in which everything is closed. What hangs is
            given up and named in a `CameraFailed`.
        poll_interval: Seconds between two questions to each camera how it is, from which `CameraStateChanged`
            and `away` come; None to ask nobody.
        backoff: Waits between tries to reach a camera that is away; by default one second at first,
            and ``poll_interval`` at most, or half a minute if that is shorter.

    Attributes:
        events: Everything that happens; also by `subscribe`.

    Raises:
        UsageError: A setting is none.
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
        if not shutdown_timeout > 0 or (poll_interval is not None and not poll_interval > 0):
            raise UsageError("shutdown_timeout and poll_interval are seconds, more than none")
        shared = SharedResources(http, zeroconf, interfaces)
        super().__init__(
            shared,
            self.take_of,
            fail_fast=fail_fast,
            shutdown_timeout=shutdown_timeout,
            poll_interval=poll_interval,
            backoff=backoff,
        )
        reference = None if ntp_server is None else time_server(ntp_server)
        self._takes = Takes(self.events, self._tell_of_take, reference)
        self._polls = poll_interval is not None

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        if self._polls:
            self.watch_clocks()
        return self

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
        **settings: Unpack[Settings],
    ) -> AsyncIterator[Self]:
        """A session with the cameras at these addresses; one that does not answer is `away`, and tried again.

        ``async with Session.open("multicam://hill", "mediamtx://host:8002", fleet="fleet.toml") as session:``

        The block begins once every address has answered or failed to, or after ``timeout`` seconds.
        The address of a service without a camera means all cameras behind it, also those that come
        later. See docs/fleet.md.

        Args:
            at: Addresses.
            cameras: More addresses, by label; see `camera`.
            fleet: More of both, and settings, from a file or as read before.
            credentials: For the services among ``at`` and ``cameras`` that want them.
            timeout: Seconds to wait for cameras before the block begins.
            mdns: Whether to listen to cameras that announce themselves, which brings back those that
                were away, or have moved, sooner. No others are taken in.
            settings: As `Session` takes them; they go before those of the fleet. Without any,
                ``poll_interval`` is ten seconds.

        Raises:
            AddressError: One is no address, or of a system unknown here.
            UsageError: An address or a label is given twice, or a setting is none.
            FleetError: The fleet's file is wrong; the error says where.
            StorageError: It, or a file with a secret, cannot be read.
        """
        plan = await Fleet.load(fleet) if isinstance(fleet, (str, Path)) else fleet or Fleet()
        found = places((*plan.places, *at), cameras or {}, credentials)
        merged: Settings = {**plan.settings(), **settings}
        async with cls(**merged) as session:
            first_tries = {str(place.address): session._attendance.seek(place, timeout) for place in found}
            if mdns and plan.mdns:
                await session._listen({place.address.system for place in found})
            await session._attendance.settle(first_tries, timeout)
            yield session

    def _tell_of_take(self, event: Event) -> None:
        """Emit what a take tells, but for what the session has seen itself."""
        if not (self.watches_clocks and isinstance(event, (ClockStepped, ProgramPaused))):
            self.emit(event)

    async def _close(self) -> None:
        """Nothing new first; then takes, while their cameras still answer; cameras; what they share."""
        self._unwatch_clocks()
        ending = Shutdown(self._shutdown_timeout)
        reserve = min(self._shutdown_timeout / 5, 10.0)
        first = await ending.step({"search": self._scope.aclose()}, leaving=ending.beyond(reserve / 4))
        self._failures += first.values()
        takes = self._takes.endings(max(ending.left - reserve, 0.0), reserve * 0.2)
        self._failures += (await ending.step(takes, leaving=reserve * 0.4)).values()
        closings = {key: camera.aclose() for key, camera in self._roster.cameras.items()}
        closings["cameras that were not taken in"] = self._attendance.aclose()
        for key, error in (await ending.step(closings, leaving=ending.beyond(reserve * 0.8))).items():
            self.emit(CameraFailed(camera=key, step="close", error=error))
        self._roster.cameras.clear()
        await ending.step({"news": self.events.drain()}, leaving=ending.beyond(reserve * 0.1))
        for jobs in (
            self._shared.close_services(),
            {"HTTP session": self._shared.close_http(), "mDNS sockets": self._shared.close_mdns()},
            {"events": self.events.aclose()},
        ):
            self._failures += (await ending.step(jobs, leaving=ending.beyond(reserve / 2))).values()

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
        verify: FileCheck | None = None,
    ) -> Take:
        """Record with several cameras at once and bring every file home; see `Take.run` and `new_take`.

        Args:
            cameras: The cameras; by default all of the session that are not away. Who is away is then in the
                manifest, as missing, and the take is not complete.
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
        verify: FileCheck | None = None,
        missing: Mapping[str, Unavailable] | None = None,
    ) -> Take:
        """A take to go through step by step; wound up with the session if it has not ended by then.

        Args: as for `take`, and
            missing: Who was to be among ``cameras`` and is not there, as of `away`: that is in the manifest,
                and the take is not complete. Without ``cameras`` these are all that are `away`.

        Raises:
            UsageError: There are no cameras, or one is named twice.
        """
        self._check_open()
        chosen = self._roster.present() if cameras is None else cameras
        absent = self._roster.absent() if cameras is None and missing is None else missing or {}
        labels = {key: label for label, key in self.labels.items()}
        return self._takes.new(
            chosen,
            directory,
            name=name,
            limits=limits,
            verify=verify,
            labels=labels,
            missing=[self._roster.missing(key, away) for key, away in absent.items()],
        )

    def take_of(self, camera: Camera | str) -> Take | None:
        """Return the take of this session that has begun, has not ended and has this camera, or None."""
        return self._takes.holder(camera if isinstance(camera, str) else camera.id)

    # -- events ---------------------------------------------------------------------------------

    @property
    def polls(self) -> bool:
        """Return whether the session asks its cameras from time to time how they are (``poll_interval``)."""
        return self._polls

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
        """The next event of the given types and cameras; see `EventHub.wait_for`, also for the errors."""
        return await self.events.wait_for(*types, camera=camera, timeout=timeout, where=where, replay=replay)

    # -- what cameras share ---------------------------------------------------------------------

    @property
    def http(self) -> "ClientSession":
        """The shared HTTP session, made at its first use.

        Raises:
            StateError: The session is not open.
        """
        self._check_open()
        return self._shared.http()
