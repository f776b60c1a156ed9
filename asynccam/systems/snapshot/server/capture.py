"""What takes pictures: the interface all ways of it share, and processes that wait for a word."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from asynccam.systems.snapshot.server.settings import CameraConfig


class Exposure(Protocol):
    """A capture that is set up and waits for its moment."""

    def fire(self) -> None:
        """Now. Never waits, so that several can be fired in one go."""
        ...

    async def taken(self) -> float:
        """Wait until the device is done with; the moment of the picture, Unix seconds.

        Raises:
            RecordingError: There is no picture.
            TimeoutError: It took too long.
        """
        ...

    async def develop(self) -> None:
        """Make a true JPEG of what came; the device is not needed for it.

        Raises:
            RecordingError: It cannot be made one.
        """
        ...


class Backend(Protocol):
    """One way to take pictures."""

    def prepare(
        self, camera: CameraConfig, target: Path, *, hold: bool = False
    ) -> AbstractAsyncContextManager[Exposure]:
        """Set a capture up; leaving the block ends it, whatever it does.

        Args:
            camera: What to capture from, and how.
            target: The JPEG to be; its directory is the capture's own.
            hold: Whether as much as possible is done before `Exposure.fire`, which several
                cameras at one moment are worth; otherwise what is quickest in all.

        Raises:
            RecordingError: It cannot be set up.
        """
        ...
