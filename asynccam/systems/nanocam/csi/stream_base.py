"""What picture and video streams have in common: a camera, a place for files, and one run at a time."""

import asyncio
from pathlib import Path
from typing import Final

from asynccam.errors import StateError, StorageError, UsageError
from asynccam.runtime.disk import on_disk
from asynccam.runtime.event_hub import EventHub
from asynccam.systems.nanocam.csi.camera import CSIcamera

FIRST_FRAME: Final = 20.0
"""Seconds a camera may take to open and give its first frame."""
MEMORY: Final = 1 << 30
"""Bytes of frames kept in memory, unless told otherwise."""
DRAIN: Final = 30.0
"""Seconds for what a process has written to be read when it is gone."""


class BaseStream:
    """A stream that a camera is connected to.

    Attributes:
        media_path: Directory for its files, which must exist.
        memory: Bytes of frames kept in memory at most.
        events: What its recorders tell, if a hub was given.
    """

    def __init__(self, events: EventHub | None) -> None:
        self.media_path: str | Path | None = None
        self.memory = MEMORY
        self.events = events
        self._connected: CSIcamera | None = None
        self._over: asyncio.Future[None] | None = None

    def connect_camera(self, camera: CSIcamera) -> None:
        """Take frames from this camera, as it is set when the stream is started."""
        self._connected = camera

    @property
    def running(self) -> bool:
        """Whether it was started and is not over."""
        return self._over is not None and not self._over.done()

    @property
    def stand_in(self) -> str | None:
        """What takes the camera's place on this computer, in words, or None for a Jetson's camera.

        Raises:
            StateError: No camera is connected, or nobody has looked yet; a stream that runs has.
        """
        return self._camera.stand_in

    @property
    def _camera(self) -> CSIcamera:
        if self._connected is None:
            raise StateError("no camera is connected; call connect_camera first")
        return self._connected

    def _begin(self) -> None:
        """Mark the beginning of a run; the caller marks its end."""
        if self.running:
            raise StateError("the stream is running already")
        self._over = asyncio.get_running_loop().create_future()

    def _end(self) -> None:
        if self._over is not None and not self._over.done():
            self._over.set_result(None)

    async def _directory(self) -> Path:
        if self.media_path is None:
            raise UsageError("media_path is not set; it says where files go")
        directory = Path(self.media_path)
        if not await on_disk(directory.is_dir):
            raise StorageError(f"{directory} is not a directory")
        return directory
