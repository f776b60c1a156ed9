# The public names and where they live; `__init__.py` brings each in when it is first asked for.
from .camera import SnapshotCamera
from .client import SnapshotClient
from .errors import SnapshotClientError
from .imu import ImuReading, read_imu
from .models import (
    CameraEntry,
    CameraResult,
    Picture,
    SnapshotResult,
    SnapshotResults,
    StoredPicture,
)

__all__ = [
    "CameraEntry",
    "CameraResult",
    "ImuReading",
    "Picture",
    "SnapshotCamera",
    "SnapshotClient",
    "SnapshotClientError",
    "SnapshotResult",
    "SnapshotResults",
    "StoredPicture",
    "read_imu",
]
