# The public names and where they live; `__init__.py` brings each in when it is first asked for.
from .bridge.mqtt import MqttBridge as MqttBridge
from .errors import (
    AddressError as AddressError,
    AsynccamError as AsynccamError,
    AuthenticationError as AuthenticationError,
    BusyError as BusyError,
    ClockNotSynchronizedError as ClockNotSynchronizedError,
    ConnectionError as ConnectionError,
    DeviceError as DeviceError,
    FatalError as FatalError,
    FeatureError as FeatureError,
    InsufficientSpaceError as InsufficientSpaceError,
    NotFoundError as NotFoundError,
    PermissionDeniedError as PermissionDeniedError,
    RecordingError as RecordingError,
    RemoteProtocolError as RemoteProtocolError,
    RetryableError as RetryableError,
    StateError as StateError,
    StorageError as StorageError,
    TargetExistsError as TargetExistsError,
    TimeoutError as TimeoutError,
    TransferError as TransferError,
    UsageError as UsageError,
)
from .model.address import Address as Address
from .model.camera import Camera as Camera
from .model.credentials import (
    Credentials as Credentials,
    TokenProvider as TokenProvider,
)
from .model.digest import DigestName as DigestName
from .model.events import (
    CameraChanged as CameraChanged,
    CameraEvent as CameraEvent,
    CameraFailed as CameraFailed,
    CameraFound as CameraFound,
    CameraLost as CameraLost,
    CameraStateChanged as CameraStateChanged,
    ClockMeasured as ClockMeasured,
    ClockStepped as ClockStepped,
    Event as Event,
    FileArrived as FileArrived,
    FileProgress as FileProgress,
    MissedEvents as MissedEvents,
    ProgramPaused as ProgramPaused,
    RecordingStarted as RecordingStarted,
    RecordingStopped as RecordingStopped,
    TakePhaseChanged as TakePhaseChanged,
)
from .model.features import (
    DeviceClock as DeviceClock,
    Files as Files,
    Record as Record,
    ScheduledStart as ScheduledStart,
    Snapshot as Snapshot,
    Stream as Stream,
)
from .model.info import (
    CameraInfo as CameraInfo,
    CameraState as CameraState,
    CameraStatus as CameraStatus,
    ClockOffset as ClockOffset,
    LocalFile as LocalFile,
    MediaFile as MediaFile,
)
from .model.manifest import Manifest as Manifest
from .net.mqtt import MqttBroker as MqttBroker
from .net.reconnecting import ConnectionStateChanged as ConnectionStateChanged
from .runtime.event_hub import (
    EventHub as EventHub,
    EventStream as EventStream,
    Subscription as Subscription,
)
from .session import (
    CameraTarget as CameraTarget,
    Fleet as Fleet,
    FleetError as FleetError,
    Session as Session,
    Unavailable as Unavailable,
)
from .systems.mediamtx import (
    CameraClient as CameraClient,
    MediaMtxCamera as MediaMtxCamera,
    MediaMTXSimulator as MediaMTXSimulator,
)
from .systems.multicam import (
    MultiCamCamera as MultiCamCamera,
    MultiCamClient as MultiCamClient,
    MultiCamDevice as MultiCamDevice,
)
from .systems.nanocam import (
    CSIcamera as CSIcamera,
    MediaClient as MediaClient,
    MediaServer as MediaServer,
    NanocamCamera as NanocamCamera,
)
from .systems.snapshot import (
    SnapshotCamera as SnapshotCamera,
    SnapshotClient as SnapshotClient,
    SnapshotClientError as SnapshotClientError,
)
from .systems.thorvision import (
    ThorVisionCamera as ThorVisionCamera,
    ThorVisionClient as ThorVisionClient,
    ThorVisionSimulator as ThorVisionSimulator,
)
from .take import Take as Take

__version__: str
