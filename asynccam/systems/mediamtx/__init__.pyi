# The public names and where they live; `__init__.py` brings each in when it is first asked for.
from .camera import MediaMtxCamera as MediaMtxCamera
from .client import CameraClient as CameraClient
from .errors import (
    AuthenticationError as AuthenticationError,
    CameraBusyError as CameraBusyError,
    CameraNotFoundError as CameraNotFoundError,
    CameraServiceError as CameraServiceError,
    ConnectionError as ConnectionError,
    MediaMTXError as MediaMTXError,
    PermissionDeniedError as PermissionDeniedError,
    RateLimitedError as RateLimitedError,
    StorageFullError as StorageFullError,
    UnsupportedError as UnsupportedError,
)
from .events import (
    CameraStatusUpdate as CameraStatusUpdate,
    ConnectionStateChanged as ConnectionStateChanged,
    RecordingStatusUpdate as RecordingStatusUpdate,
    ServiceNotice as ServiceNotice,
)
from .models import (
    CameraInfo as CameraInfo,
    FileInfo as FileInfo,
    FileList as FileList,
    Metrics as Metrics,
    RecordingInfo as RecordingInfo,
    Report as Report,
    SnapshotInfo as SnapshotInfo,
    Streams as Streams,
)
from .simulator.behavior import (
    ServiceFaults as ServiceFaults,
    ServiceWays as ServiceWays,
)
from .simulator.simulator import MediaMTXSimulator as MediaMTXSimulator
