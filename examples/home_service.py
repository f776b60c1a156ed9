"""A service of a home-automation program: set up and unloaded by its host.

The host lends its HTTP session and its mDNS, and is told whenever an entity changes; nothing is left when
the service is unloaded.
"""

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

import aiohttp
from zeroconf.asyncio import AsyncZeroconf

from asynccam import (
    CameraEvent,
    CameraFound,
    CameraState,
    CameraStateChanged,
    RecordingStarted,
    RecordingStopped,
    Session,
)

Write = Callable[[str, str], None]
"""A function of the host, which writes an entity's state."""


class CameraService:
    """The cameras of one configuration entry."""

    def __init__(self, http: aiohttp.ClientSession, zeroconf: AsyncZeroconf, write: Write) -> None:
        self._http = http
        self._zeroconf = zeroconf
        self._write = write
        self._stack = AsyncExitStack()

    async def async_setup(self, cameras: Sequence[str], poll_interval: float = 10.0) -> Session:
        """Open the session; an unavailable camera becomes an entity, and raises no error."""
        session = await self._stack.enter_async_context(
            Session.open(*cameras, http=self._http, zeroconf=self._zeroconf, poll_interval=poll_interval)
        )
        kinds = (CameraFound, CameraStateChanged, RecordingStarted, RecordingStopped)
        self._stack.enter_context(session.subscribe(self._on_event, *kinds, replay=True))
        return session

    async def async_unload(self) -> None:
        """Close the session; the host's HTTP session and mDNS stay open."""
        await self._stack.aclose()

    def _on_event(self, event: CameraEvent) -> None:
        match event:
            case CameraFound(info=info):
                self._write(f"{event.camera}/name", info.name)
            case CameraStateChanged(state=state):
                self._write(f"{event.camera}/available", "off" if state is CameraState.UNAVAILABLE else "on")
            case RecordingStarted():
                self._write(f"{event.camera}/recording", "on")
            case RecordingStopped():
                self._write(f"{event.camera}/recording", "off")
