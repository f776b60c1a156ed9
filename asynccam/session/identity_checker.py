"""Distinction of one device that has moved, or has two addresses, from two devices with one id."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from asynccam.errors import AsynccamError, BusyError, RetryableError, TimeoutError, UsageError
from asynccam.model.address import Address
from asynccam.model.camera import Camera
from asynccam.runtime.retry import Backoff, retry
from asynccam.runtime.tasks import finish, thread_errors
from asynccam.runtime.timing import deadline
from asynccam.systems.registry import adapter_of

_RESOLVE_TIMEOUT: Final = 2.0
"""Seconds."""
_BACKOFF: Final = Backoff(initial=0.2)
"""A device that serves one connection at a time may refuse one that follows at once."""


class IdentityChecker:
    """Memory of addresses that turned out to be another device's, and the check that finds them.

    Two addresses are one device's if they are the same after name resolution, if the device announces both,
    or if it tells the same run id at both. If a live device answers at each and there is no run id to
    compare, the second address is refused.
    """

    def __init__(self) -> None:
        self._duplicates: set[tuple[str, str]] = set()

    def forget(self, key: str) -> None:
        """Forget what was found of the devices with an id."""
        self._duplicates = {(other, address) for other, address in self._duplicates if other != key}

    def is_duplicate(self, camera: Camera) -> bool:
        """Return whether the address of a camera was found to be another device's with its id."""
        return (camera.id, camera.info.address) in self._duplicates

    @staticmethod
    def is_at(camera: Camera, address: str) -> bool:
        """Return whether a camera itself says that it is at an address."""
        known = Address.parse(address)
        return (known.host, known.port) in adapter_of(camera.info.system).endpoints(camera)

    async def check(
        self, known_address: str, camera: Camera, connect: Callable[[Address], Awaitable[Camera]]
    ) -> None:
        """Check that a camera is the device with its id that was known at another address.

        ``connect`` connects to the known address, and raises if nothing answers there any more.

        Raises:
            UsageError: Both addresses answer, and nothing says that they are one device's.
            AsynccamError: The camera does not answer, while the known one does.
        """
        known, new = Address.parse(known_address), Address.parse(camera.info.address)
        if self.is_at(camera, known_address) or await _is_same_endpoint(known, new):
            return
        certain = self.is_duplicate(camera)
        if not certain:
            run_id = adapter_of(camera.info.system).run_id

            async def ask_known(attempts: int) -> str | None:
                """Return the run id of the device at the known address, or None if it is not there."""
                try:
                    other = await retry(lambda: connect(known), attempts=attempts, backoff=_BACKOFF)
                except AsynccamError:
                    return None
                try:
                    return await run_id(other) if other.id == camera.id else None
                except RetryableError:
                    return ""  # whether it is still there is asked again
                finally:
                    await finish(other.aclose())

            before = await ask_known(1)
            if before is None:
                return  # it has moved
            run = await run_id(camera)
            if run and run == before:
                return
            # A device that moves may answer at the known address until just now: two are there only if it
            # still does, after the new one has answered.
            after = await ask_known(2)
            if after is None or (run and run == after):
                return
            certain = bool(run and (before or after))
            self._duplicates.add((camera.id, str(new)))
        doubt = "" if certain else ", or one device with both addresses, which does not tell"
        raise UsageError(
            f"two devices answer as {camera.id}, at {known} and at {new}{doubt}; "
            "rename one of them, or use one address only"
        )


async def _is_same_endpoint(one: Address, other: Address) -> bool:
    if one.port != other.port:
        return False
    if one.host == other.host:
        return True
    loop = asyncio.get_running_loop()
    # Without an answer, or a thread to wait for one in, they are not known to be the same.
    with suppress(OSError, UnicodeError, TimeoutError, BusyError), thread_errors():
        async with deadline(_RESOLVE_TIMEOUT, f"addresses of {one.host} and {other.host}"):
            found = [await loop.getaddrinfo(host, one.port) for host in (one.host, other.host)]
        mine, others = ({info[4][0] for info in infos} for infos in found)
        return bool(mine & others)
    return False
