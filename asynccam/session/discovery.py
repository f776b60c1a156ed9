"""Looking for cameras of several systems at once, for as long as a Session lasts."""

import asyncio
import builtins
from collections.abc import Callable, Sequence
from typing import Final

from asynccam.errors import UsageError
from asynccam.model.camera import Camera
from asynccam.model.events import CameraChanged, CameraFound, CameraLost
from asynccam.model.systems import SYSTEMS, system_of
from asynccam.runtime.tasks import Ready, TaskScope
from asynccam.session.shared import SharedResources
from asynccam.systems._base import Discovery
from asynccam.systems.registry import load_adapter

News = CameraFound | CameraChanged | CameraLost

_OPEN_TIMEOUT: Final = 10.0
"""Seconds discovery has to open."""


class DiscoveryManager:
    """Keeps one discovery running for each system that was asked for.

    Args:
        shared: Where the mDNS sockets come from.
        scope: Owns the tasks; closing it ends them.
        heard: Called with the camera, what is new of it, and whether `look` was asked for cameras of its
            system; the camera is None if it was lost.
    """

    def __init__(
        self, shared: SharedResources, scope: TaskScope, heard: Callable[[Camera | None, News, bool], None]
    ) -> None:
        self._shared = shared
        self._scope = scope
        self._heard = heard
        self._running: dict[str, Discovery] = {}
        self._wanted: set[str] = set()
        self._opening = asyncio.Lock()
        self._arrival = asyncio.Event()

    async def look(self, systems: Sequence[str] | None, count: int | None, timeout: float) -> list[Camera]:
        """The cameras that are there after ``timeout`` seconds, or as soon as there are ``count``.

        Args:
            systems: Only these systems; None for all that can be discovered.
            count: How many are enough; None to wait in any case.
            timeout: Seconds to wait.

        Raises:
            UsageError: A system is unknown, or cannot be discovered.
            ConnectionError: mDNS cannot be opened.
        """
        if systems is None:
            names = [system.name for system in SYSTEMS.values() if system.discoverable]
        else:
            names = list(systems)
        for name in names:
            await self.listen(name)
        self._wanted.update(names)
        try:
            async with asyncio.timeout(timeout) as limit:
                while count is None or len(self._there(names)) < count:
                    self._arrival.clear()
                    await self._arrival.wait()
        except builtins.TimeoutError:
            if not limit.expired():
                raise
        return self._there(names)

    def takes_in(self, system: str) -> bool:
        """Return whether every camera of a system that announces itself becomes the session's."""
        return system in self._wanted

    async def listen(self, system: str) -> None:
        """Hear from now on what cameras of a system announce.

        Raises:
            As for `look`.
        """
        if not system_of(system).discoverable:
            raise UsageError(f"cameras of {system} cannot be discovered; connect to them by address")
        async with self._opening:
            if system in self._running:
                return
            adapter = await load_adapter(system)
            zeroconf = await self._shared.mdns()

            async def follow(ready: Ready[None]) -> None:
                async with adapter.discover(zeroconf) as discovery:
                    self._running[system] = discovery
                    ready(None)
                    try:
                        async for event in discovery:
                            self._tell(system, discovery, event)
                    finally:
                        del self._running[system]

            await self._scope.start(follow, name=f"discovery of {system}", timeout=_OPEN_TIMEOUT)

    def _tell(self, system: str, discovery: Discovery, event: News) -> None:
        camera = None if isinstance(event, CameraLost) else discovery.cameras[event.camera]
        self._heard(camera, event, system in self._wanted)
        self._arrival.set()

    def _there(self, systems: Sequence[str]) -> list[Camera]:
        return [
            camera
            for name, discovery in self._running.items()
            if name in systems
            for camera in discovery.cameras.values()
        ]
