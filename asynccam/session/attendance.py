"""Who is there: looks at places until a camera answers, and asks cameras from time to time how they are."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Final

from asynccam.errors import AsynccamError, TimeoutError
from asynccam.model.address import Address
from asynccam.model.camera import Camera
from asynccam.model.credentials import Credentials
from asynccam.model.events import CameraFound, Event
from asynccam.runtime.backoff import Backoff, retry
from asynccam.runtime.timing import deadline
from asynccam.session.keeper import Keeper
from asynccam.session.places import Place
from asynccam.session.roster import Roster
from asynccam.session.wings import Means, load_wing

_ANSWER_TIMEOUT: Final = 15.0
"""Seconds a camera or a service has to answer."""
_ONCE_MORE: Final = Backoff(initial=0.2)
"""A check that fails is made twice: one lost packet takes no camera away."""


class Attendance:
    """Keeps a `Roster` true.

    Args:
        roster: What is known.
        keeper: Does the trying.
        means: What a wing gets to connect with, for these credentials and this port of a file server.
        busy: Whether a camera is in a take, so that no check may get in its way.
        check_every: Seconds between two checks of a camera; None for no checks.
    """

    def __init__(
        self,
        roster: Roster,
        keeper: Keeper,
        means: Callable[[Credentials | None, int | None], Means],
        busy: Callable[[str], bool],
        check_every: float | None,
    ) -> None:
        self._roster = roster
        self._keeper = keeper
        self._means = means
        self._busy = busy
        self._check_every = check_every
        self._dismissed: set[str] = set()

    async def connect(
        self, address: Address, credentials: Credentials | None, timeout: float, http_port: int | None = None
    ) -> Camera:
        """The camera at an address; the caller adopts it."""
        wing = await load_wing(address.system)
        async with deadline(timeout, f"answer from {address}"):
            return await wing.connect(address, self._means(credentials, http_port))

    # -- places -------------------------------------------------------------------------------------

    def seek(self, place: Place) -> asyncio.Event:
        """Look at a place until somebody answers; gives what is set when the first try has ended."""
        key = str(place.address)
        self._roster.places[key] = place
        attempt: Callable[[Place], Awaitable[None]] = self._meet_all if place.is_service else self._meet
        return self._keeper.keep(
            key,
            lambda: attempt(place),
            lambda error: self._roster.failed(key, error),
            every=self._check_every if place.is_service else None,
        )

    async def _meet(self, place: Place) -> None:
        await self._meet_at(place.address, place)

    async def _meet_all(self, place: Place) -> None:
        """Meet every camera behind a service that has not been met; one's failure is not the others'."""
        wing = await load_wing(place.address.system)
        assert wing.behind is not None
        async with deadline(_ANSWER_TIMEOUT, f"answer from {place.address}"):
            there = await wing.behind(place.address, self._means(place.credentials, place.http_port))
        self._roster.answered(str(place.address))
        for info in there:
            if info.id in self._roster.cameras or info.id in self._dismissed:
                continue
            try:
                await self._meet_at(Address.parse(info.address), place)
            except AsynccamError as error:
                self._roster.failed(info.id, error)

    async def _meet_at(self, address: Address, place: Place) -> None:
        camera = await self.connect(address, place.credentials, _ANSWER_TIMEOUT, place.http_port)
        if self.take_in(camera, place) is not camera:
            await camera.aclose()

    # -- cameras ------------------------------------------------------------------------------------

    def take_in(self, camera: Camera, place: Place | None = None) -> Camera:
        """Make a camera one of the session's, and check it from now on; gives the one that is held."""
        held = self._roster.adopt(camera, place)
        self._dismissed.discard(held.id)
        key = held.id
        if self._check_every is not None and key not in self._keeper:
            self._keeper.keep(
                key, lambda: self._check(key), lambda error: self._missed(key, error), every=self._check_every
            )
        return held

    def dismiss(self, key: str) -> None:
        """A camera, or a place, is not to be looked for any longer."""
        self._keeper.drop(key)
        self._roster.forget(key)
        self._dismissed.add(key)

    async def _check(self, key: str) -> None:
        if self._busy(key):
            return
        camera = self._roster.cameras[key]
        async with deadline(_ANSWER_TIMEOUT, f"status of {key}"):
            status = await retry(camera.status, attempts=2, backoff=_ONCE_MORE)
        self._roster.stands(key, status.state, status.detail)

    def _missed(self, key: str, error: Exception) -> None:
        if not self._busy(key):
            self._roster.failed(key, error)

    async def settle(self, tried: Iterable[asyncio.Event], timeout: float) -> None:
        """Wait until first tries have ended, however they did, or until the time is over."""
        with suppress(TimeoutError):
            async with deadline(timeout, "answers"):
                for one in tried:
                    await one.wait()

    # -- news that say that a try may succeed now -----------------------------------------------------

    def wake(self, key: str | None = None) -> None:
        """Try one again now, or all who are away."""
        self._keeper.wake(key)

    def heard(self, event: Event) -> None:
        """Draw conclusions from an event that passes."""
        if self._roster.heard(event):
            self._keeper.wake(event.subject)
        elif isinstance(event, CameraFound) and event.camera not in self._roster.cameras:
            place = self._roster.service_of(event.camera)
            if place is None:
                return
            if str(place.address) in self._keeper:
                self._keeper.wake(str(place.address))
            else:
                self.seek(place)

    def announced(self, camera: Camera) -> None:
        """A camera announces itself: who is away at this place may answer now."""
        self._keeper.wake(camera.id)
        place = self._roster.place_at(camera.info.address)
        if place is not None:
            self._keeper.wake(str(place.address))
