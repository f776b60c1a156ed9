"""Tells one device that has moved, or has two addresses, from two devices with one id."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from asynccam.errors import AsynccamError, BusyError, TimeoutError, UsageError
from asynccam.model.address import Address
from asynccam.model.camera import Camera
from asynccam.runtime.tasks import finish
from asynccam.runtime.threads import thread_errors
from asynccam.runtime.timing import deadline
from asynccam.systems.registry import adapter_of

_LOOK_UP: Final = 2.0
"""Seconds a name may take to be looked up."""


class IdentityChecker:
    """Knows which addresses were found to be another device's, and asks where nobody knows yet.

    Evidence that two addresses are one device: they are the same after name resolution; the device announces
    both; or it tells, at both, one mark of its run. Where a living device at each address tells no mark, it
    cannot be told, and the second address is refused.
    """

    def __init__(self) -> None:
        self._strangers: set[tuple[str, str]] = set()

    def forget(self, key: str) -> None:
        """Forget what was found of the devices with an id."""
        self._strangers = {(other, address) for other, address in self._strangers if other != key}

    def is_stranger(self, camera: Camera) -> bool:
        """Return whether the address of a camera was found to be another device's with its id."""
        return (camera.id, camera.info.address) in self._strangers

    @staticmethod
    def is_at(camera: Camera, address: str) -> bool:
        """Return whether a camera says of itself that it is at an address."""
        known = Address.parse(address)
        return (known.host, known.port) in adapter_of(camera.info.system).endpoints(camera)

    async def tell_apart(
        self, held: str, camera: Camera, living: Callable[[Address], Awaitable[Camera]]
    ) -> None:
        """See that a camera is not a second device with the id of one that lives elsewhere.

        Args:
            held: The address of the one that is known.
            camera: The one at another address.
            living: Connects to the known address; raises if nobody is there now.

        Raises:
            UsageError: Both addresses answer, and nothing says that they are one device's.
            AsynccamError: The camera does not answer, while the one that is known does.
        """
        known, new = Address.parse(held), Address.parse(camera.info.address)
        if self.is_at(camera, held) or await _is_one_endpoint(known, new):
            return
        certain = self.is_stranger(camera)
        if not certain:
            try:
                other = await living(known)
            except AsynccamError:
                return  # it has moved
            try:
                if other.id != camera.id:
                    return
                marks = await _mark(other), await _mark(camera)
            finally:
                await finish(other.aclose())
            if marks[0] and marks[0] == marks[1]:
                return
            certain = bool(marks[0] and marks[1])
            self._strangers.add((camera.id, str(new)))
        doubt = "" if certain else ", or one device with both addresses, which does not tell"
        raise UsageError(
            f"two devices answer as {camera.id}, at {known} and at {new}{doubt}; "
            "rename one of them, or use one address only"
        )


async def _mark(camera: Camera) -> str:
    return await adapter_of(camera.info.system).run_id(camera)


async def _is_one_endpoint(one: Address, other: Address) -> bool:
    """Whether two addresses are the same once their names are looked up."""
    if one.port != other.port:
        return False
    if one.host == other.host:
        return True
    loop = asyncio.get_running_loop()
    # Without an answer, or a thread to wait for one in, they are not known to be the same.
    with suppress(OSError, UnicodeError, TimeoutError, BusyError), thread_errors():
        async with deadline(_LOOK_UP, f"addresses of {one.host} and {other.host}"):
            found = [await loop.getaddrinfo(host, one.port) for host in (one.host, other.host)]
        mine, others = ({place[4][0] for place in places} for places in found)
        return bool(mine & others)
    return False
