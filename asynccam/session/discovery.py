"""Discovery of cameras of several systems at once, for as long as a Session lasts."""

import asyncio
import builtins
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from asynccam.errors import UsageError
from asynccam.model.camera import Camera
from asynccam.model.events import CameraChanged, CameraFound, CameraLost
from asynccam.model.systems import SYSTEMS, system_of
from asynccam.runtime.tasks import Ready, TaskScope
from asynccam.session.shared import SharedResources
from asynccam.systems import Discovery
from asynccam.systems.registry import load_adapter

DiscoveryEvent = CameraFound | CameraChanged | CameraLost

_OPEN_TIMEOUT: Final = 10.0
"""Seconds discovery has to open."""


class DiscoveryManager:
    """Discoveries that run, one for each system that was asked for.

    Args:
        shared: Opens the mDNS sockets.
        scope: Owns the tasks; closing it ends them.
        on_event: Called with the camera (None if it was lost), its event, and whether all cameras of its
            system are to be added.
    """

    def __init__(
        self,
        shared: SharedResources,
        scope: TaskScope,
        on_event: Callable[[Camera | None, DiscoveryEvent, bool], None],
    ) -> None:
        self._shared = shared
        self._scope = scope
        self._on_event = on_event
        self._running: dict[str, Discovery] = {}
        self._searched: set[str] = set()
        self._opening = asyncio.Lock()
        self._changed = asyncio.Event()

    async def search(self, systems: Sequence[str] | None, count: int | None, timeout: float) -> list[Camera]:
        """Return the cameras that are there after ``timeout`` seconds, or as soon as there are ``count``.

        ``systems`` are all that can be discovered, if None. Raises as `listen`.
        """
        if systems is None:
            systems = [system.name for system in SYSTEMS.values() if system.discoverable]
        for name in systems:
            await self.listen(name)
        self._searched.update(systems)
        with suppress(builtins.TimeoutError):
            async with asyncio.timeout(timeout):
                while count is None or len(self._found(systems)) < count:
                    self._changed.clear()
                    await self._changed.wait()
        return self._found(systems)

    def adds_all(self, system: str) -> bool:
        """Return whether every camera of a system that announces itself is added to the session."""
        return system in self._searched

    async def listen(self, system: str) -> None:
        """Report from now on what cameras of a system announce.

        Raises:
            UsageError: The system is unknown, or cannot be discovered.
            ConnectionError: mDNS cannot be opened.
        """
        if not system_of(system).discoverable:
            raise UsageError(f"cameras of {system} cannot be discovered; connect to them by address")
        adapter = await load_adapter(system)
        async with self._opening:
            if system in self._running:
                return
            zeroconf = await self._shared.mdns()

            async def follow(ready: Ready[None]) -> None:
                async with adapter.discover(zeroconf) as discovery:
                    self._running[system] = discovery
                    ready(None)
                    try:
                        async for event in discovery:
                            lost = isinstance(event, CameraLost)
                            camera = None if lost else discovery.cameras[event.camera]
                            self._on_event(camera, event, system in self._searched)
                            self._changed.set()
                    finally:
                        del self._running[system]

            await self._scope.start(follow, name=f"discovery of {system}", timeout=_OPEN_TIMEOUT)

    def _found(self, systems: Sequence[str]) -> list[Camera]:
        return [
            camera
            for name, discovery in self._running.items()
            if name in systems
            for camera in discovery.cameras.values()
        ]
