# The public names and where they live; `__init__.py` brings each in when it is first asked for.
from .camera import MediaMtxCamera
from .client import CameraClient
from .errors import (
    AuthenticationError,
    CameraBusyError,
    CameraNotFoundError,
    CameraServiceError,
    ConnectionError,
    MediaMTXError,
    PermissionDeniedError,
    RateLimitedError,
    StorageFullError,
    UnsupportedError,
)
from .events import (
    CameraStatusUpdate,
    ConnectionStateChanged,
    RecordingStatusUpdate,
    ServiceNotice,
)
from .models import (
    CameraInfo,
    FileInfo,
    FileList,
    Metrics,
    RecordingInfo,
    Report,
    SnapshotInfo,
    Streams,
)
from .simulator.behavior import ServiceFaults, ServiceWays
from .simulator.simulator import MediaMTXSimulator

__all__ = [
    "AuthenticationError",
    "CameraBusyError",
    "CameraClient",
    "CameraInfo",
    "CameraNotFoundError",
    "CameraServiceError",
    "CameraStatusUpdate",
    "ConnectionError",
    "ConnectionStateChanged",
    "FileInfo",
    "FileList",
    "MediaMTXError",
    "MediaMTXSimulator",
    "MediaMtxCamera",
    "Metrics",
    "PermissionDeniedError",
    "RateLimitedError",
    "RecordingInfo",
    "RecordingStatusUpdate",
    "Report",
    "ServiceFaults",
    "ServiceNotice",
    "ServiceWays",
    "SnapshotInfo",
    "StorageFullError",
    "Streams",
    "UnsupportedError",
]
