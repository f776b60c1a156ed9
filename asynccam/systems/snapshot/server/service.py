"""SnapshotService: everything a Snapshot server does but the web. See docs/protocols/snapshot.md."""

from types import TracebackType

from asynccam.runtime.hub import EventHub
from asynccam.systems.snapshot.server.capture import Backend
from asynccam.systems.snapshot.server.config import CameraConfig, ConfigFile
from asynccam.systems.snapshot.server.imu import ImuFeed
from asynccam.systems.snapshot.server.services import Services
from asynccam.systems.snapshot.server.shots import CaptureState, Shot, ShotResult
from asynccam.systems.snapshot.server.store import SnapshotStore


class SnapshotService:
    """Takes pictures with the cameras of a configuration; an async context manager that owns its parts.

    Entered, it opens the configuration, the store, the services and the IMU it was given, in this order,
    and mends what a crash left; left, it refuses new captures, gives running ones ``grace`` seconds, cancels
    the others, starts every stopped service again and closes its parts.

    Args:
        config: The cameras.
        store: Where pictures go.
        backend: How they are taken.
        services: Stops and restarts what holds a device.
        imu: Where readings come from, or None.
        events: Where everything is told; closed by whoever made it.
        max_captures: Captures at the same time.
        max_waiting: Captures that may wait; more are refused.
        grace: Seconds that running captures have at the end.
    """

    def __init__(
        self,
        config: ConfigFile,
        store: SnapshotStore,
        *,
        backend: Backend,
        services: Services,
        imu: ImuFeed | None,
        events: EventHub,
        max_captures: int = 4,
        max_waiting: int = 256,
        grace: float = 5.0,
    ) -> None:
        raise NotImplementedError

    config: ConfigFile
    store: SnapshotStore
    services: Services
    imu: ImuFeed | None
    events: EventHub

    @property
    def capturing(self) -> int:
        """Captures that run."""
        raise NotImplementedError

    @property
    def waiting(self) -> int:
        """Captures that wait."""
        raise NotImplementedError

    def cameras(self) -> tuple[CameraConfig, ...]:
        """The cameras in force, in the file's order."""
        raise NotImplementedError

    def state_of(self, name: str) -> CaptureState:
        """Where a camera stands.

        Raises:
            NotFoundError: There is no such camera.
        """
        raise NotImplementedError

    async def capture(self, name: str, *, prefix: str = "snapshot") -> Shot:
        """Take one picture.

        Args:
            name: The camera.
            prefix: What its file's name begins with, one of `names.PREFIXES`.

        Raises:
            NotFoundError: There is no such camera.
            BusyError: Too many captures wait already.
            RecordingError: The capture failed, in words.
            TimeoutError: It took too long.
            DeviceError: The camera's service cannot be stopped.
            StorageError: The disk refuses.
            StateError: The server is being shut down.
            UsageError: There is no such prefix.
        """
        raise NotImplementedError

    async def capture_all(self, *, prefix: str = "api_all_cams") -> tuple[ShotResult, ...]:
        """Take a picture with every camera; one's failure never hides another's picture.

        Each service stops once at the beginning and starts once at the end.

        Returns:
            A result for each camera in the file's order, ``()`` where there are none.

        Raises:
            BusyError: Too many captures wait already; nothing was stopped.
            StateError: The server is being shut down.
            UsageError: There is no such prefix.
        """
        raise NotImplementedError

    async def capture_stereo(self, *, prefix: str = "api_stereo") -> tuple[ShotResult, ...]:
        """Take pictures with the cameras marked stereo, with the least delay between.

        All are prepared first and then fired together; those that share a device follow one
        another. Returns and raises as `capture_all`.
        """
        raise NotImplementedError

    async def aclose(self) -> None:
        """What leaving the block does; harmless when called twice."""
        raise NotImplementedError

    async def __aenter__(self) -> "SnapshotService":
        raise NotImplementedError

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        raise NotImplementedError
