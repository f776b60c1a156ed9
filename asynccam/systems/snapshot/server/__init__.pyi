# The public names and where they live; `__init__.py` brings each in when it is first asked for.
from .app import SnapshotWeb
from .capture import Backend, Exposure
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
from .gstreamer import CameraBackend, GStreamerBackend, TestBackend, simulated_cameras
from .imu import ImuFeed
from .index import Page, StoredSnapshot
from .serve import serve
from .service import SnapshotService
from .services import Services
from .settings import CameraConfig, ImuSettings, Limits, Problem, Retention, ServerConfig, check_camera
from .shots import CaptureState, Phase, Reading, Shot, ShotResult
from .store import SnapshotStore
from .v4l2ctl import V4l2CtlBackend

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
