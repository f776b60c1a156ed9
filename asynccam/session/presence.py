"""Who is there: looks at places until a camera answers, and asks cameras from time to time how they are."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Mapping
from contextlib import suppress
from typing import Final, TypeVar

from asynccam.errors import AsynccamError, ConnectionError, TimeoutError, UsageError
from asynccam.model.address import Address
from asynccam.model.camera import Camera
from asynccam.model.credentials import Credentials
from asynccam.model.events import CameraFound, Event
from asynccam.model.features import Files
from asynccam.model.info import CameraInfo, CameraState
from asynccam.net.reconnecting import ConnectionState, ConnectionStateChanged
from asynccam.runtime.retry import Backoff, RetryScheduler, retry
from asynccam.runtime.tasks import TaskScope, finish
from asynccam.runtime.timing import deadline
from asynccam.session.identity_checker import IdentityChecker
from asynccam.session.pending_queries import PendingQueries
from asynccam.session.registry import CameraRegistry
from asynccam.session.targets import CameraTarget
from asynccam.systems._base import ConnectContext
from asynccam.systems.registry import adapter_of, load_adapter
from asynccam.take import Take, TakeState

_LOG = logging.getLogger(__name__)

T = TypeVar("T")

_LONGEST_FIRST: Final = 15.0
_SHORTEST_FIRST: Final = 4.0
"""Seconds between which the first try at an address has to end; later ones have those of a check."""
_ALIVE: Final = 2.0
"""Seconds a device has to show that it is still where it was."""
_ONCE_MORE: Final = Backoff(initial=0.2)
"""A check that fails is made twice: one lost packet takes no camera away."""


_AT_REST: Final = frozenset({CameraState.READY, CameraState.UNKNOWN})


def _looking(key: str) -> Hashable:
    """Names the looking at an address: a camera's id may be the same text."""
    return "look", key


def _checking(key: str) -> Hashable:
    """Names the checks of a camera."""
    return "check", key


def _records_itself(camera: Camera) -> bool:
    """Return whether a camera keeps its recordings itself, so that it knows whether it records."""
    return camera.supports(Files)


class PresenceMonitor:
    """Keeps a `Roster` true.

    Args:
        roster: What is known.
        keeper: Does the trying.
        scope: Owns the tasks of questions that are still open.
        means: What a wing gets to connect with, for these credentials and this port of a file server.
        take_of: Gives the take that a camera is in, or None.
        poll_interval: Seconds between two checks of a camera; None for no checks.
    """

    def __init__(
        self,
        roster: CameraRegistry,
        keeper: RetryScheduler,
        scope: TaskScope,
        means: Callable[[Credentials | None, int | None], ConnectContext],
        take_of: Callable[[str], Take | None],
        poll_interval: float | None,
    ) -> None:
        self._roster = roster
        self._keeper = keeper
        self._means = means
        self._take_of = take_of
        self._poll_interval = poll_interval
        self._dismissed: set[str] = set()
        self._questions = PendingQueries(scope, keeper.retry_now, self._passed_over)
        self._unheard: list[Camera] = []  # connected after nobody waited for them any longer
        self._scope = scope
        self._reconnected: set[str] = set()
        self._closed = False
        self._first: dict[str, float] = {}  # seconds for the first try, by address
        self._twins = IdentityChecker()
        self._told_of: set[tuple[str, str]] = set()  # ids and addresses of devices that were refused
        self._lives_at: dict[str, str] = {}  # where each camera that was met is for certain

    async def connect(
        self, address: Address, credentials: Credentials | None, timeout: float, http_port: int | None = None
    ) -> Camera:
        """The camera at an address; the caller adopts it."""
        wing = await load_adapter(address.system)
        async with deadline(timeout, f"answer from {address}"):
            return await wing.connect(address, self._means(credentials, http_port))

    # -- places -------------------------------------------------------------------------------------

    def seek(self, place: CameraTarget, timeout: float = 0.0) -> asyncio.Event:
        """Look at a place until somebody answers; gives what is set when the first try has ended.

        Until then the place is away.

        Args:
            place: Where.
            timeout: Seconds for which somebody waits for the first try: it may then take as long, if that is
                between 4 and 15 s. Every later one has the time of a check.
        """
        key = str(place.address)
        self._first[key] = min(max(timeout, _SHORTEST_FIRST), _LONGEST_FIRST)
        self._roster.places[key] = place
        self._roster.expect(key)
        attempt: Callable[[CameraTarget], Awaitable[None]] = (
            self._meet_all if place.is_service else self._meet
        )
        return self._keeper.schedule(
            _looking(key),
            lambda: attempt(place),
            lambda error: self._roster.failed(key, error),
            interval=self._poll_interval if place.is_service else None,
        )

    async def _meet(self, place: CameraTarget) -> None:
        await self._meet_at(place.address, place)

    async def _meet_all(self, place: CameraTarget) -> None:
        """Meet every camera behind a service that has not been met; one's failure is not the others'."""
        there = await self._behind(place)
        new = [
            info for info in there if info.id not in self._roster.cameras and info.id not in self._dismissed
        ]
        self._roster.expect_only(place, [info.id for info in new])
        self._roster.answered(str(place.address))
        for info in new:
            try:
                await self._meet_at(Address.parse(info.address), place)
            except AsynccamError as error:
                self._roster.failed(info.id, error)

    async def _contact(self, key: str, question: Callable[[], Awaitable[T]]) -> T:
        """Ask at an address: as patiently as somebody waits at first, then as a camera is checked."""
        first = self._first.pop(key, None)
        if first is None:
            return await self._questions.ask(_looking(key), question, key)
        async with deadline(first, f"answer from {key}"):
            return await question()

    async def _behind(self, place: CameraTarget) -> list[CameraInfo]:
        """Describe the cameras behind a service."""
        key = str(place.address)
        wing = await load_adapter(place.address.system)
        means = self._means(place.credentials, place.http_port)
        return await self._contact(key, lambda: wing.list_cameras(place.address, means))

    async def _meet_at(self, address: Address, place: CameraTarget) -> None:
        camera = await self._contact(
            str(address),
            lambda: self.connect(address, place.credentials, _LONGEST_FIRST, place.http_port),
        )
        await self.admit(camera, place, credentials=place.credentials, http_port=place.http_port)

    async def admit(
        self,
        camera: Camera,
        place: CameraTarget | None = None,
        *,
        credentials: Credentials | None,
        http_port: int | None,
    ) -> Camera:
        """Take in a camera that has just answered; gives the one that is held.

        Raises:
            UsageError: The one that is held answers elsewhere: these are two devices.
        """
        try:
            await self._tell_apart(camera, credentials, http_port)
        except BaseException:
            await finish(camera.aclose())
            raise
        held = self.take_in(camera, place)
        if held is not camera:
            await finish(camera.aclose())
        return held

    def _passed_over(self, answer: object) -> None:
        """Close a camera whose connection came when nobody waited for it any longer."""
        if not isinstance(answer, Camera) or self._roster.cameras.get(answer.id) is answer:
            return
        self._unheard.append(answer)
        if not self._closed:
            self._scope.spawn(self._close_unheard(), name=f"close {answer.id}")

    async def _close_unheard(self) -> None:
        while self._unheard:
            camera = self._unheard.pop()
            try:
                await finish(camera.aclose())
            except AsynccamError as error:
                _LOG.info("%s was connected too late, and closing it failed: %s", camera.id, error)

    async def aclose(self) -> None:
        """Close what was connected and never taken in; called when nothing is asked any longer."""
        self._closed = True
        self._questions.close()
        await self._close_unheard()

    async def _tell_apart(
        self, camera: Camera, credentials: Credentials | None, http_port: int | None
    ) -> None:
        """See that a camera is not a second device with the id of one that lives at another address."""
        held = self._lives_at.get(camera.id)
        if camera.id in self._roster.cameras and held and camera.info.address:
            await self._twins.tell_apart(
                held, camera, lambda known: self.connect(known, credentials, _ALIVE, http_port)
            )

    def knows(self, camera: Camera) -> bool:
        """Return whether a camera that announces itself is new, or is where its id was already."""
        held = self._lives_at.get(camera.id)
        if camera.id not in self._roster.cameras or not held:
            return True
        return self._twins.is_at(camera, held)

    async def follow(self, camera: Camera) -> Camera | None:
        """Take in a camera that announces itself; gives the one held, or None if it is another device.

        Where one of its id lives elsewhere, the session keeps to that one, and a `CameraFailed` says so once.
        """
        address = camera.info.address
        try:
            if camera.id not in self._roster.away or self._twins.is_stranger(camera):
                await self._tell_apart(camera, None, None)
        except AsynccamError as error:
            held = self._roster.cameras.get(camera.id)
            if held is camera:  # discovery has moved it already
                adapter_of(camera.info.system).set_address(camera, Address.parse(self._lives_at[camera.id]))
            if isinstance(error, UsageError) and (camera.id, address) not in self._told_of:
                self._told_of.add((camera.id, address))
                self._roster.refused(camera.id, error)
            return None
        return self.take_in(camera)

    # -- cameras ------------------------------------------------------------------------------------

    def take_in(self, camera: Camera, place: CameraTarget | None = None) -> Camera:
        """Make a camera one of the session's, and check it from now on; gives the one that is held."""
        held = self._roster.adopt(camera, place)
        self._dismissed.discard(held.id)
        key = held.id
        self._lives_at[key] = held.info.address
        if self._poll_interval is not None and _checking(key) not in self._keeper:
            self._keeper.schedule(
                _checking(key),
                lambda: self._check(key),
                lambda error: self._missed(key, error),
                interval=self._poll_interval,
            )
        return held

    def dismiss(self, key: str) -> None:
        """A camera, or a place, is not to be looked for any longer."""
        for name in (_looking(key), _checking(key)):
            self._keeper.cancel(name)
            self._questions.drop(name)
        self._first.pop(key, None)
        self._lives_at.pop(key, None)
        self._twins.forget(key)
        self._told_of = {(other, address) for other, address in self._told_of if other != key}
        self._roster.forget(key)
        self._dismissed.add(key)

    async def _check(self, key: str) -> None:
        if self._in_the_way(key) and key not in self._reconnected:
            return
        camera = self._roster.cameras[key]
        status = await self._questions.ask(
            _checking(key), lambda: retry(camera.status, attempts=2, backoff=_ONCE_MORE), key
        )
        self._reconnected.discard(key)
        if self._take_of(key) is None or _records_itself(camera) or status.state not in _AT_REST:
            self._roster.stands(key, status.state, status.detail)
        elif key in self._roster.away:
            # Its recorder runs here, so its own word says nothing of the recording.
            self._roster.stands(key, CameraState.UNKNOWN, "answers again")
        extra = self._questions.patience_beyond_usual(_checking(key))
        if extra > 0 and self._poll_interval is not None:  # so that the sum of both waits stays the same
            self._keeper.retry_within(
                _checking(key), max(self._poll_interval - extra, self._poll_interval / 2)
            )

    def _missed(self, key: str, error: Exception) -> None:
        if not self._in_the_way(key):
            self._roster.failed(key, error)

    def _in_the_way(self, key: str) -> bool:
        """Return whether a question would get in the way of a take: before T0, and when it stops its cameras.

        Some devices serve one connection at a time, and an armed start or a stop has to have it.
        """
        take = self._take_of(key)
        return take is not None and (take.state is not TakeState.RECORDING or key in take.awaited)

    async def settle(self, tried: Mapping[str, asyncio.Event], timeout: float) -> None:
        """Wait until first tries have ended, however they did, or until the time is over.

        Args:
            tried: What `seek` gave, by address.
            timeout: Seconds.
        """
        with suppress(TimeoutError):
            async with deadline(timeout, "answers"):
                for one in tried.values():
                    await one.wait()
        for key, one in tried.items():
            if not one.is_set():
                within = f" within {timeout:g} s" if timeout > 0 else " yet"
                self._roster.unanswered(key, TimeoutError(f"{key} has not answered{within}"))

    # -- news that say that a try may succeed now -----------------------------------------------------

    def retry_now(self, key: str | None = None) -> None:
        """Try one again now, or all who are away."""
        if key is None:
            self._keeper.retry_now()
        else:
            self._keeper.retry_now(_looking(key))
            self._keeper.retry_now(_checking(key))

    def heard(self, event: Event) -> None:
        """Draw conclusions from an event that passes."""
        if isinstance(event, ConnectionStateChanged):
            self._connection_moved(event)
        elif self._roster.heard(event):
            self.retry_now(event.subject)
        elif isinstance(event, CameraFound) and event.camera not in self._roster.cameras:
            place = self._roster.service_of(event.camera)
            if place is None:
                return
            if _looking(str(place.address)) in self._keeper:
                self._keeper.retry_now(_looking(str(place.address)))
            else:
                self.seek(place)

    def _connection_moved(self, event: ConnectionStateChanged) -> None:
        """Cameras go with the connection to their service, in a take too; once it is back, they are asked."""
        behind = self._roster.behind(event.subject)
        if event.state is ConnectionState.LOST:
            why = f": {event.reason}" if event.reason else ""
            for key in behind:
                self._roster.failed(key, ConnectionError(f"the connection to {event.subject} is lost{why}"))
        elif event.state is ConnectionState.READY:
            self._reconnected.update(key for key in behind if _checking(key) in self._keeper)
            for key in (*behind, event.subject):
                self.retry_now(key)

    def announced(self, camera: Camera) -> None:
        """A camera announces itself: who is away at this place may answer now."""
        if camera.id in self._roster.away:
            self._questions.renew(_checking(camera.id))
        self.retry_now(camera.id)
        place = self._roster.place_at(camera.info.address)
        if place is not None:
            self.retry_now(str(place.address))
