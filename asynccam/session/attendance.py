"""Who is there: looks at places until a camera answers, and asks cameras from time to time how they are."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping
from contextlib import suppress
from typing import Final

from asynccam.errors import AsynccamError, ConnectionError, TimeoutError, UsageError
from asynccam.model.address import Address
from asynccam.model.camera import Camera
from asynccam.model.credentials import Credentials
from asynccam.model.events import CameraFound, Event
from asynccam.model.features import Files
from asynccam.model.info import CameraInfo, CameraState
from asynccam.net.live import LinkState, LinkStateChanged
from asynccam.runtime.backoff import Backoff, retry
from asynccam.runtime.tasks import TaskScope, finish
from asynccam.runtime.timing import deadline
from asynccam.session.keeper import Keeper
from asynccam.session.places import Place
from asynccam.session.questions import Questions
from asynccam.session.roster import Roster
from asynccam.session.wings import Means, load_wing
from asynccam.take import Take, TakeState

_ANSWER_TIMEOUT: Final = 15.0
"""Seconds a camera or a service has to answer."""
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


class Attendance:
    """Keeps a `Roster` true.

    Args:
        roster: What is known.
        keeper: Does the trying.
        scope: Owns the tasks of questions that are still open.
        means: What a wing gets to connect with, for these credentials and this port of a file server.
        take_of: Gives the take that a camera is in, or None.
        check_every: Seconds between two checks of a camera; None for no checks.
    """

    def __init__(
        self,
        roster: Roster,
        keeper: Keeper,
        scope: TaskScope,
        means: Callable[[Credentials | None, int | None], Means],
        take_of: Callable[[str], Take | None],
        check_every: float | None,
    ) -> None:
        self._roster = roster
        self._keeper = keeper
        self._means = means
        self._take_of = take_of
        self._check_every = check_every
        self._dismissed: set[str] = set()
        self._questions = Questions(scope, keeper.wake)
        self._reconnected: set[str] = set()

    async def connect(
        self, address: Address, credentials: Credentials | None, timeout: float, http_port: int | None = None
    ) -> Camera:
        """The camera at an address; the caller adopts it."""
        wing = await load_wing(address.system)
        async with deadline(timeout, f"answer from {address}"):
            return await wing.connect(address, self._means(credentials, http_port))

    # -- places -------------------------------------------------------------------------------------

    def seek(self, place: Place) -> asyncio.Event:
        """Look at a place until somebody answers; gives what is set when the first try has ended.

        Until then the place is away.
        """
        key = str(place.address)
        self._roster.places[key] = place
        self._roster.expect(key)
        attempt: Callable[[Place], Awaitable[None]] = self._meet_all if place.is_service else self._meet
        return self._keeper.keep(
            _looking(key),
            lambda: attempt(place),
            lambda error: self._roster.failed(key, error),
            every=self._check_every if place.is_service else None,
        )

    async def _meet(self, place: Place) -> None:
        await self._meet_at(place.address, place)

    async def _meet_all(self, place: Place) -> None:
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

    async def _behind(self, place: Place) -> list[CameraInfo]:
        """Describe the cameras behind a service; one that has answered before has to do so promptly."""
        key = str(place.address)
        wing = await load_wing(place.address.system)
        behind = wing.behind
        assert behind is not None
        means = self._means(place.credentials, place.http_port)
        if key in self._roster.reached:
            return await self._questions.ask(_looking(key), lambda: behind(place.address, means), key)
        async with deadline(_ANSWER_TIMEOUT, f"answer from {key}"):
            return await behind(place.address, means)

    async def _meet_at(self, address: Address, place: Place) -> None:
        camera = await self.connect(address, place.credentials, _ANSWER_TIMEOUT, place.http_port)
        await self.admit(camera, place, credentials=place.credentials, http_port=place.http_port)

    async def admit(
        self,
        camera: Camera,
        place: Place | None = None,
        *,
        credentials: Credentials | None,
        http_port: int | None,
    ) -> Camera:
        """Take in a camera that has just answered; gives the one that is held.

        Raises:
            UsageError: The one that is held answers elsewhere, at another port: these are two devices.
        """
        try:
            await self._tell_apart(camera, credentials, http_port)
        except BaseException:
            await finish(camera.aclose())
            raise
        held = self.take_in(camera, place)
        if held is not camera:
            await camera.aclose()
        return held

    async def _tell_apart(
        self, camera: Camera, credentials: Credentials | None, http_port: int | None
    ) -> None:
        """See that a camera is not a second device with the id of one that lives at another port.

        A device with two network interfaces answers at two addresses and at one port.
        """
        held = self._roster.cameras.get(camera.id)
        if held is None or not held.info.address or not camera.info.address:
            return
        known, new = Address.parse(held.info.address), Address.parse(camera.info.address)
        if known.port == new.port:
            return
        try:
            other = await self.connect(known, credentials, _ALIVE, http_port)
        except AsynccamError:
            return  # it has moved
        same = other.id == camera.id
        await other.aclose()
        if same:
            raise UsageError(
                f"two devices answer as {camera.id}, at {known} and at {new}; rename one of them"
            )

    # -- cameras ------------------------------------------------------------------------------------

    def take_in(self, camera: Camera, place: Place | None = None) -> Camera:
        """Make a camera one of the session's, and check it from now on; gives the one that is held."""
        held = self._roster.adopt(camera, place)
        self._dismissed.discard(held.id)
        key = held.id
        if self._check_every is not None and _checking(key) not in self._keeper:
            self._keeper.keep(
                _checking(key),
                lambda: self._check(key),
                lambda error: self._missed(key, error),
                every=self._check_every,
            )
        return held

    def dismiss(self, key: str) -> None:
        """A camera, or a place, is not to be looked for any longer."""
        for name in (_looking(key), _checking(key)):
            self._keeper.drop(name)
            self._questions.drop(name)
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

    def wake(self, key: str | None = None) -> None:
        """Try one again now, or all who are away."""
        if key is None:
            self._keeper.wake()
        else:
            self._keeper.wake(_looking(key))
            self._keeper.wake(_checking(key))

    def heard(self, event: Event) -> None:
        """Draw conclusions from an event that passes."""
        if isinstance(event, LinkStateChanged):
            self._connection_moved(event)
        elif self._roster.heard(event):
            self.wake(event.subject)
        elif isinstance(event, CameraFound) and event.camera not in self._roster.cameras:
            place = self._roster.service_of(event.camera)
            if place is None:
                return
            if _looking(str(place.address)) in self._keeper:
                self._keeper.wake(_looking(str(place.address)))
            else:
                self.seek(place)

    def _connection_moved(self, event: LinkStateChanged) -> None:
        """Cameras go with the connection to their service, in a take too; once it is back, they are asked."""
        behind = self._roster.behind(event.subject)
        if event.state is LinkState.LOST:
            why = f": {event.reason}" if event.reason else ""
            for key in behind:
                self._roster.failed(key, ConnectionError(f"the connection to {event.subject} is lost{why}"))
        elif event.state is LinkState.READY:
            self._reconnected.update(key for key in behind if _checking(key) in self._keeper)
            for key in (*behind, event.subject):
                self.wake(key)

    def announced(self, camera: Camera) -> None:
        """A camera announces itself: who is away at this place may answer now."""
        self.wake(camera.id)
        place = self._roster.place_at(camera.info.address)
        if place is not None:
            self.wake(str(place.address))
