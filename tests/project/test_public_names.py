"""The public names, pinned: whoever adds or removes one says so here and in the CHANGELOG.

To pin another name, put it in its package's list; the order does not matter. A package that
exports nothing is not listed.
"""

import importlib
import inspect
import pkgutil
import subprocess
import sys
from types import ModuleType

import pytest

import asynccam

PINNED = {
    "asynccam": """
        Address AddressError AsynccamError AuthenticationError Unavailable BusyError CSIcamera Camera
        CameraChanged CameraClient CameraEvent CameraFailed CameraFound CameraInfo CameraLost
        CameraState CameraStateChanged CameraStatus ClockMeasured ClockNotSynchronizedError ClockOffset
        ClockStepped
        ConnectionError ConnectionStateChanged Credentials DeviceClock DeviceError DigestName Event EventHub
        EventStream FatalError
        FeatureError FileArrived FileProgress Files Fleet FleetError MissedEvents InsufficientSpaceError
        LocalFile Manifest MediaClient MediaFile MediaMTXSimulator MediaMtxCamera MediaServer MqttBridge
        MqttBroker MultiCamCamera MultiCamClient MultiCamDevice NanocamCamera NotFoundError
        PermissionDeniedError CameraTarget ProgramPaused
        Record RecordingError RecordingStarted RecordingStopped RemoteProtocolError RetryableError
        ScheduledStart Session Snapshot SnapshotCamera SnapshotClient SnapshotClientError StateError
        StorageError Stream Subscription Take TakePhaseChanged TargetExistsError ThorVisionCamera
        ThorVisionClient ThorVisionSimulator TimeoutError TokenProvider TransferError UsageError Unavailable
    """,
    "asynccam.recording": """
        EarlyEnd EndReason FileVerdict FrameTime Gap HlsFiles LateBegin Limits Pipeline Recorder
        RecorderDiskLow RecorderEnded RecorderEvent RecorderOtherStream RecorderProgress RecorderResumed
        RecorderSegmentClosed RecorderStalled
        RecorderStarted RecorderState RtpSource RtspSource SingleFile SplitFiles SrtJpegSource
        StopDeadlines TestPattern V4l2Source Verdict Watch frame_times verify_file
    """,
    "asynccam.session": """
        Unavailable Fleet FleetError CameraTarget Session
    """,
    "asynccam.systems": """
        ConnectContext Discovery System SystemAdapter register
    """,
    "asynccam.systems.mediamtx": """
        AuthenticationError CameraBusyError CameraClient CameraInfo CameraNotFoundError CameraServiceError
        CameraStatusUpdate ConnectionError ConnectionStateChanged FileInfo FileList MediaMTXError
        MediaMTXSimulator MediaMtxCamera Metrics PermissionDeniedError RateLimitedError RecordingInfo
        RecordingStatusUpdate Report ServiceFaults ServiceNotice ServiceWays SnapshotInfo StorageFullError
        Streams UnsupportedError
    """,
    "asynccam.systems.multicam": """
        ArmedCommand ArmsAhead COMMAND_TIMEOUT CommandMessage CommandType DOWNLOAD_CHUNK_SIZE
        DOWNLOAD_STALL_TIMEOUT DeviceFaults DeviceLimits DeviceStatus DeviceType ErrorResponse FileMetadata
        FileResponse GstRecorder ListFilesResponse MAX_ROUND_TRIP MultiCamCamera MultiCamClient MultiCamDevice
        MultiCamDiscovery NTP_PORT NTP_SERVER NtpOffset RecorderHook SAFE_COMMAND_SIZE SERVICE_TYPE
        SYNC_DELAY StatusResponse StopRecordingResponse TCP_PORT UploadItem UploadStatus discover
    """,
    "asynccam.systems.snapshot": """
        CameraEntry CameraResult ImuReading Picture SnapshotCamera SnapshotClient SnapshotClientError
        SnapshotResult SnapshotResults StoredPicture read_imu
    """,
    "asynccam.systems.snapshot.server": """
        Backend CameraBackend CameraConfig CaptureDone CaptureFailed CaptureQueued CaptureStarted
        CaptureState ConfigChanged ConfigFile Exposure GStreamerBackend ImuChanged ImuFeed
        ImuSettings Limits Page Phase Problem Reading Retention ServerConfig ServiceRestored
        ServiceTrouble Services Shot ShotResult SnapshotDeleted SnapshotService SnapshotStore
        SnapshotWeb StoredSnapshot TestBackend V4l2CtlBackend check_camera serve simulated_cameras
    """,
    "asynccam.systems.nanocam": """
        Antibanding CSIcamera ClientTimeouts EdgeEnhancement Encoder FlipMethod ImageStream
        MEDIA_PORT MESSAGE_PORT MediaClient MediaPorts MediaServer NanocamCamera NoiseReduction
        ServerLimits ServerPolicy VideoStream WhenBusy WhiteBalance
    """,
    "asynccam.systems.thorvision": """
        Camera CameraAdded CameraRemoved Capability ConnectionStateChanged OpenStream PortPool
        ServerFaults ServerNotice Split StreamSettings StreamStart StreamStop ThorVisionCamera
        ThorVisionClient ThorVisionSimulator Versions XdaqClient simulated_camera
    """,
    "asynccam.take": """
        AlignedCamera AlignedFile Alignment CheckResult Connector CutPoint FrameTimes
        Take TakeLimits TakeState
        TimeServer TimedFile TimedFrame FileCheck align_take read_frame_times resume_take
    """,
}


def packages() -> list[str]:
    below = pkgutil.walk_packages(asynccam.__path__, f"{asynccam.__name__}.")
    return [asynccam.__name__, *(one.name for one in below if one.ispkg)]


def exported(package: ModuleType) -> set[str]:
    return set(getattr(package, "__all__", ()))


def test_import_of_top_level_is_light() -> None:
    """A program that names only errors and events loads no client, no HTTP and no mDNS."""
    program = "import sys, asynccam; asynccam.TimeoutError, asynccam.Event; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout
    assert not {"aiohttp", "zeroconf", "websockets", "pydantic"} & set(loaded.split())


@pytest.mark.parametrize("name", packages())
def test_package_exports_the_pinned_names(name: str) -> None:
    assert exported(importlib.import_module(name)) == set(PINNED.get(name, "").split())


def test_pinned_packages_exist() -> None:
    assert PINNED.keys() <= set(packages())


@pytest.mark.parametrize("name", packages())
def test_public_names_have_docstrings(name: str) -> None:
    package = importlib.import_module(name)
    for public in exported(package):
        value = getattr(package, public)
        if inspect.isclass(value) or inspect.isroutine(value):
            assert inspect.getdoc(value), f"{name}.{public} has no docstring"


@pytest.mark.parametrize("name", packages())
def test_exports_have_no_duplicates(name: str) -> None:
    names = getattr(importlib.import_module(name), "__all__", [])
    assert len(names) == len(set(names))
