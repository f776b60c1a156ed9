# The public names and where they live; `__init__.py` brings each in when it is first asked for.
from .app import SnapshotWeb
from .backends.base import Backend, Exposure
from .backends.gstreamer import CameraBackend, GStreamerBackend, TestBackend, simulated_cameras
from .backends.v4l2 import V4l2CtlBackend
from .config import ConfigFile
from .events import (
    CaptureDone,
    CaptureFailed,
    CaptureQueued,
    CaptureStarted,
    ConfigChanged,
    ImuChanged,
    ServiceRestored,
    ServiceTrouble,
    SnapshotDeleted,
)
from .imu import ImuFeed
from .models import CaptureState, Page, Phase, Reading, Shot, ShotResult, StoredSnapshot
from .serve import serve
from .service import SnapshotService
from .settings import CameraConfig, ImuSettings, Limits, Problem, Retention, ServerConfig, check_camera
from .store import SnapshotStore
from .systemd import Services

__all__ = [
    "Backend",
    "CameraBackend",
    "CameraConfig",
    "CaptureDone",
    "CaptureFailed",
    "CaptureQueued",
    "CaptureStarted",
    "CaptureState",
    "ConfigChanged",
    "ConfigFile",
    "Exposure",
    "GStreamerBackend",
    "ImuChanged",
    "ImuFeed",
    "ImuSettings",
    "Limits",
    "Page",
    "Phase",
    "Problem",
    "Reading",
    "Retention",
    "ServerConfig",
    "ServiceRestored",
    "ServiceTrouble",
    "Services",
    "Shot",
    "ShotResult",
    "SnapshotDeleted",
    "SnapshotService",
    "SnapshotStore",
    "SnapshotWeb",
    "StoredSnapshot",
    "TestBackend",
    "V4l2CtlBackend",
    "check_camera",
    "serve",
    "simulated_cameras",
]
