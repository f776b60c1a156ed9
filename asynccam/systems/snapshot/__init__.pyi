# The public names and where they live; `__init__.py` brings each in when it is first asked for.
from .camera import SnapshotCamera as SnapshotCamera
from .client import SnapshotClient as SnapshotClient
from .errors import SnapshotClientError as SnapshotClientError
from .imu import (
    ImuReading as ImuReading,
    read_imu as read_imu,
)
from .models import (
    CameraEntry as CameraEntry,
    CameraResult as CameraResult,
    Picture as Picture,
    SnapshotResult as SnapshotResult,
    SnapshotResults as SnapshotResults,
    StoredPicture as StoredPicture,
)
