"""The cameras of a Session: how they come into it, how they leave it, and who of them is away."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from asynccam.errors import ConnectionError, UsageError
from asynccam.model.address import Address
from asynccam.model.camera import Camera
from asynccam.model.credentials import Credentials
from asynccam.model.events import CameraFailed, CameraLost, ClockStepped, Event, ProgramPaused
from asynccam.model.info import CameraInfo
from asynccam.model.systems import system_of
from asynccam.redaction import loggable
from asynccam.runtime.clock_watch import ClockStep, ClockWatch, Pause
from asynccam.runtime.hub import EventHub
from asynccam.runtime.retry import Backoff, RetryScheduler
from asynccam.runtime.tasks import TaskScope, finish
from asynccam.runtime.timing import deadline
from asynccam.session.block import Block
from asynccam.session.discovery import DiscoveryManager, News
from asynccam.session.presence import PresenceMonitor
from asynccam.session.registry import CameraRegistry
from asynccam.session.shared import SessionContext, SharedResources
from asynccam.session.shutdown import Shutdown
from asynccam.session.targets import CameraTarget, Unavailable, check_http_port, places
from asynccam.systems._base import ConnectContext
from asynccam.systems.registry import load_adapter
from asynccam.take import Take

_LOG = logging.getLogger(__name__)

_CLOSE_TIMEOUT: Final = 10.0
"""Seconds a camera has to close when it is removed."""


def _waits(poll_interval: float | None) -> Backoff:
    """The waits between tries: a camera that is back is to be noticed as soon as one that goes."""
    longest = 30.0 if poll_interval is None else min(30.0, poll_interval)
    return Backoff(initial=min(1.0, longest), maximum=longest)


class Company(Block):
    """The part of a `Session` that its cameras are in.

    Args:
        shared: What the cameras share.
        take_of: Gives the take that a camera is in, or None.
        fail_fast: Whether the first failure of a camera ends the block.
        shutdown_timeout: Seconds that a camera has to close.
        poll_interval: Seconds between two questions to each camera how it is, or None.
        backoff: Waits between tries to reach a camera that is away, or None.

    Attributes:
        events: Everything that happens.
    """

    def __init__(
        self,
        shared: SharedResources,
        take_of: Callable[[str], Take | None],
        *,
        fail_fast: bool,
        shutdown_timeout: float,
        poll_interval: float | None,
        backoff: Backoff | None,
    ) -> None:
        super().__init__()
        self.events = EventHub("session", on_state=self._passes)
        self._shared = shared
        self._fail_fast = fail_fast
        self._shutdown_timeout = shutdown_timeout
        self._scope = TaskScope("session", on_failure=self._task_failed)
        self._roster = CameraRegistry(self.events, self.emit)
        keeper = RetryScheduler(self._scope, backoff or _waits(poll_interval))
        self._attendance = PresenceMonitor(
            self._roster, keeper, self._scope, self._means, take_of, poll_interval
        )
        self._discoveries = DiscoveryManager(shared, self._scope, self._heard)
        self._clocks: ClockWatch | None = None

    def emit(self, event: Event) -> None:
        """Tell everyone who listens. With ``fail_fast``, a `CameraFailed` ends the session."""
        if _LOG.isEnabledFor(logging.DEBUG):
            _LOG.debug("event %s", loggable(event))
        self.events.emit(event)
        if isinstance(event, CameraFailed) and self._fail_fast:
            self._interrupt(event.error)

    @property
    def cameras(self) -> Mapping[str, Camera]:
        """Every camera of the session by id; a live view. One that is away stays in it."""
        return MappingProxyType(self._roster.cameras)

    @property
    def unavailable(self) -> Mapping[str, Unavailable]:
        """Who does not answer now, and why; a live view.

        Cameras that were met stand here by id, and stay in `cameras`. An address at which nobody has
        answered yet stands here as itself, and in `cameras` only once somebody has.
        """
        return MappingProxyType(self._roster.away)

    @property
    def labels(self) -> Mapping[str, str]:
        """Ids of cameras by the labels they were given."""
        return self._roster.labels()

    def place_of(self, camera: str) -> str:
        """Return the address that was given for a camera, or for the service it is behind; ``""`` without."""
        return self._roster.place_of(camera)

    def expects(self, camera: str, *addresses: str) -> bool:
        """Return whether a camera is the session's, or may still become so.

        That is so if the session looks at the camera's place, or takes in whatever its system announces.

        Args:
            camera: Its id.
            addresses: Where it was known to be: places, or where it was reached.
        """
        if camera in self.cameras or self._discoveries.takes_in(camera.partition("://")[0]):
            return True
        return any(self._roster.place_at(one) is not None for one in (camera, *addresses) if one)

    def camera(self, name: str) -> Camera:
        """The camera with this id or label, or the only one that calls itself so.

        Raises:
            ConnectionError: Nobody has answered yet at the address with this label.
            UsageError: There is no such camera, or there are several.
        """
        return self._roster.named(name)

    def group(self, name: str) -> list[Camera]:
        """The cameras of a group, as far as they have been met.

        Raises:
            UsageError: No place was given this group.
        """
        return self._roster.group(name)

    async def connect(
        self,
        address: Address | str,
        *,
        credentials: Credentials | None = None,
        http_port: int | None = None,
        timeout: float = 15.0,
    ) -> Camera:
        """The camera at an address, such as ``multicam://127.0.0.1:8080``; needs no discovery.

        A camera that the session has already is returned, and follows to this address.

        Args:
            address: Where it is.
            credentials: For the services that want them; without, what their environment variables hold.
            http_port: Of the file server of a MediaMTX service, likewise.
            timeout: Seconds it may take to answer.

        Raises:
            AddressError: Not an address, or of a system unknown here.
            UsageError: ``http_port`` is none, or for another system; or two devices there are have one id.
            AuthenticationError: The credentials are missing or wrong.
            ConnectionError, TimeoutError: Nobody answers.
            RemoteProtocolError: What answers is no such camera.
        """
        self._check_open()
        place = Address.parse(address) if isinstance(address, str) else address
        if http_port is not None:
            check_http_port(place, http_port)
        camera = await self._attendance.connect(place, credentials, timeout, http_port)
        if self._closed:
            await finish(camera.aclose())
        self._check_open()
        return await self._attendance.admit(camera, credentials=credentials, http_port=http_port)

    def credentials_at(self, address: Address) -> Credentials | None:
        """Credentials of the place at the host and port of an address, or None where no place is.

        Places are what `open`, `add_address` or a fleet names.
        """
        for place in self._roster.places.values():
            known = place.address
            if (known.system, known.host, known.port) == (address.system, address.host, address.port):
                return place.credentials
        return None

    async def add_address(self, place: CameraTarget | Address | str, *, timeout: float = 5.0) -> None:
        """Look at one more address, as `open` does: whoever does not answer is `away`, and tried again.

        Args:
            place: Where.
            timeout: Seconds to wait for the first try to end; it goes on afterwards.

        Raises:
            AddressError: Not an address, or of a system unknown here.
            UsageError: The session looks at it already, or has another camera of that label.
        """
        self._check_open()
        (new,) = places((place,), {}, None)
        places((*self._roster.places.values(), new), {}, None)
        await self._attendance.settle({str(new.address): self._attendance.seek(new, timeout)}, timeout)

    def retry_now(self, camera: str | None = None) -> None:
        """Try a camera or an address again now, or all that are away: something says that it is back.

        Wrong credentials are tried again by this only.
        """
        self._attendance.retry_now(camera)

    async def list_cameras(
        self, address: Address | str, *, credentials: Credentials | None = None, timeout: float = 15.0
    ) -> list[CameraInfo]:
        """Describe every camera behind the address of a service; they do not become the session's.

        Each description's ``address`` can be given to `connect`.

        Raises:
            As for `connect`.
        """
        self._check_open()
        place = Address.parse(address) if isinstance(address, str) else address
        wing = await load_adapter(place.system)
        if not system_of(place.system).is_service:
            return [(await self.connect(place, credentials=credentials, timeout=timeout)).info]
        async with deadline(timeout, f"answer from {place}"):
            return await wing.list_cameras(place, self._means(credentials, None))

    async def connect_each(
        self,
        addresses: Iterable[Address | str],
        *,
        credentials: Credentials | None = None,
        timeout: float = 15.0,
    ) -> "list[Camera | Exception]":
        """The camera at each of several addresses, or why there is none, in the same order."""
        jobs = {
            number: self.connect(place, credentials=credentials, timeout=timeout)
            for number, place in enumerate(addresses)
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
        """The cameras at several addresses, asked side by side, in the same order.

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
        held: list[Camera] = []
        for camera in there:
            one = self._attendance.take_in(camera) if self._attendance.knows(camera) else None
            one = one or await self._attendance.follow(camera)
            if one is not None:
                held.append(one)
        self._check_open()
        return held

    def watch_clocks(self) -> None:
        """Emit `ClockStepped` and `ProgramPaused` until the session ends; harmless when called twice.

        A session that polls its cameras does so by itself.

        Raises:
            StateError: The session is not open.
        """
        self._check_open()
        if self._clocks is None:
            self._clocks = ClockWatch(self._clock_stepped, self._paused)
            self._clocks.start()

    @property
    def watches_clocks(self) -> bool:
        """Return whether the session emits `ClockStepped` and `ProgramPaused` by itself."""
        return self._clocks is not None

    def _clock_stepped(self, step: ClockStep) -> None:
        _LOG.warning("this computer's clock was set by %+.3f s", step.seconds)
        self.emit(ClockStepped(seconds=step.seconds))

    def _paused(self, pause: Pause) -> None:
        _LOG.warning("the program did not run for %.2f s", pause.seconds)
        self.emit(ProgramPaused(began=pause.began, seconds=pause.seconds, slept=pause.slept))

    def _unwatch_clocks(self) -> None:
        if self._clocks is not None:
            self._clocks.stop()

    def add(self, camera: Camera) -> None:
        """Make a camera the session's, to be closed with it; for systems of one's own.

        Raises:
            UsageError: The session has another camera of that id.
        """
        self._check_open()
        if self.cameras.get(camera.id, camera) is not camera:
            raise UsageError(f"the session has another camera {camera.id}")
        self._attendance.take_in(camera)

    async def remove(self, camera: Camera | str) -> None:
        """Close a camera and forget it, which is a `CameraLost`, or look no more at an address.

        Raises:
            UsageError: It is not in the session.
        """
        key = camera if isinstance(camera, str) else camera.id
        held = self.cameras.get(key)
        if held is None and key not in self._roster.places:
            raise UsageError(f"{key} is not in the session")
        self._attendance.dismiss(key)
        if held is not None:
            self.emit(CameraLost(camera=key))
            self.events.forget(key)
            ending = Shutdown(min(self._shutdown_timeout, _CLOSE_TIMEOUT))
            errors = await finish(ending.step({key: held.aclose()}))
            for error in errors.values():
                self.emit(CameraFailed(camera=key, step="close", error=error))

    # -- what comes to its ears -----------------------------------------------------------------

    async def _listen(self, systems: set[str]) -> None:
        """Hear what cameras of these systems announce, where they do; without mDNS it goes on as well."""
        for system in systems:
            if system_of(system).discoverable:
                try:
                    await self._discoveries.listen(system)
                except ConnectionError as error:
                    _LOG.warning("cameras of %s are not heard: %s", system, error)

    def _heard(self, camera: Camera | None, event: News, wanted: bool) -> None:
        """A camera announced itself or said goodbye; ``wanted`` if all of its system are to be taken in."""
        if self._closed or (event.camera not in self.cameras and not wanted and camera is None):
            return
        if camera is None:
            self.emit(event)
        elif event.camera not in self.cameras and not wanted:
            self._attendance.announced(camera)
        elif self._attendance.knows(camera):
            is_here = self.cameras.get(camera.id) is camera and camera.id not in self.unavailable
            self._attendance.take_in(camera)
            self._welcome(camera, event, is_here)
        else:
            self._scope.spawn(self._follow(camera, event), name=f"follow {camera.id}")

    async def _follow(self, camera: Camera, event: News) -> None:
        """Follow a camera that is elsewhere now, unless that is another device with its id."""
        is_here = self.cameras.get(camera.id) is camera and camera.id not in self.unavailable
        if await self._attendance.follow(camera) is not None and not self._closed:
            self._welcome(camera, event, is_here)

    def _welcome(self, camera: Camera, event: News, is_here: bool) -> None:
        self._attendance.announced(camera)
        if is_here:  # discovery has moved it already, so that nothing was left to do and to tell
            self.emit(event)

    def _passes(self, event: Event) -> None:
        if not self._closed:
            self._attendance.heard(event)

    def _means(self, credentials: Credentials | None, http_port: int | None) -> ConnectContext:
        return SessionContext(credentials or Credentials(), self.events, self._shared, http_port)

    def _task_failed(self, name: str, error: Exception) -> None:
        _LOG.error("%s failed", name, exc_info=error)
        if self._fail_fast:
            self._interrupt(error)
