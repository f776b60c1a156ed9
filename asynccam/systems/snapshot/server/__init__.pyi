# The public names and where they live; `__init__.py` brings each in when it is first asked for.
from .app import SnapshotWeb as SnapshotWeb
from .backends import (
    Backend as Backend,
    CameraBackend as CameraBackend,
    Exposure as Exposure,
    GStreamerBackend as GStreamerBackend,
    TestBackend as TestBackend,
    V4l2CtlBackend as V4l2CtlBackend,
    simulated_cameras as simulated_cameras,
)
from .events import (
    CaptureDone as CaptureDone,
    CaptureFailed as CaptureFailed,
    CaptureQueued as CaptureQueued,
    CaptureStarted as CaptureStarted,
    ConfigChanged as ConfigChanged,
    ImuChanged as ImuChanged,
    ServiceRestored as ServiceRestored,
    ServiceTrouble as ServiceTrouble,
    SnapshotDeleted as SnapshotDeleted,
)
from .imu import ImuFeed as ImuFeed
from .models import (
    CaptureState as CaptureState,
    Page as Page,
    Phase as Phase,
    Problem as Problem,
    Reading as Reading,
    Shot as Shot,
    ShotResult as ShotResult,
    StoredSnapshot as StoredSnapshot,
)
from .serve import serve as serve
from .service import SnapshotService as SnapshotService
from .settings import (
    CameraConfig as CameraConfig,
    ConfigFile as ConfigFile,
    ImuSettings as ImuSettings,
    Limits as Limits,
    Retention as Retention,
    ServerConfig as ServerConfig,
    check_camera as check_camera,
)
from .store import SnapshotStore as SnapshotStore
from .systemd import Services as Services
