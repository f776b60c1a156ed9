"""The state of a server as documents: what the page, the API and the event stream all show."""

from asynccam.errors import NotFoundError
from asynccam.systems.snapshot.server.models import CaptureState
from asynccam.systems.snapshot.server.schemas import (
    CameraDocument,
    ConfigProblem,
    ImuDocument,
    ImuSettingsDocument,
    LimitsDocument,
    ReadingDocument,
    RetentionDocument,
    SettingsDocument,
    SnapshotDocument,
    StateDocument,
    StoreDocument,
)
from asynccam.systems.snapshot.server.service import SnapshotService
from asynccam.systems.snapshot.server.settings import CameraConfig
from asynccam.systems.snapshot.server.version import VERSION


def camera_document(service: SnapshotService, camera: CameraConfig) -> CameraDocument:
    """A camera with what it does."""
    state = capture_state(service, camera.name)
    newest = service.store.newest(camera.name)
    own = {
        "phase": state.phase.value,
        "error": state.error,
        "last": None if newest is None else SnapshotDocument.of(newest),
    }
    # In a dictionary, as an unknown field of the file may be named like anything, like these too.
    return CameraDocument.model_validate(camera.model_dump() | own)


def capture_state(service: SnapshotService, name: str) -> CaptureState:
    """What a camera does; idle for one that is gone."""
    try:
        return service.state_of(name)
    except NotFoundError:
        return CaptureState()


def camera_documents(service: SnapshotService) -> tuple[CameraDocument, ...]:
    """Every camera, in the file's order."""
    return tuple(camera_document(service, camera) for camera in service.cameras())


def imu_document(service: SnapshotService) -> ImuDocument | None:
    """The IMU, or None where none is asked."""
    feed, settings = service.imu, service.config.current.imu
    if feed is None:
        return None
    return ImuDocument(
        enabled=settings.enabled,
        connected=feed.connected,
        error=feed.error,
        broker=settings.broker,
        port=settings.port,
        topic=settings.topic,
        reading=ReadingDocument.of(feed.newest),
        fresh=feed.reading() is not None,
    )


def settings_document(service: SnapshotService) -> SettingsDocument:
    """The settings that may be changed over the web, as they are in force."""
    config = service.config.current
    retention, limits, imu = config.retention, config.limits, config.imu
    return SettingsDocument(
        retention=RetentionDocument(max_age_days=retention.max_age_days, max_size_mb=retention.max_size_mb),
        limits=LimitsDocument(captures=limits.captures, waiting=limits.waiting),
        imu=ImuSettingsDocument(
            enabled=imu.enabled,
            broker=imu.broker,
            port=imu.port,
            topic=imu.topic,
            max_age=imu.max_age,
            username=imu.username,
            password=bool(imu.password_file or imu.password_env),
        ),
    )


def state_document(service: SnapshotService) -> StateDocument:
    """Everything the page shows."""
    retention = service.config.current.retention
    return StateDocument(
        version=VERSION,
        cameras=camera_documents(service),
        problems=tuple(
            ConfigProblem(
                field=one.field, message=one.message, line=one.line, column=one.column, camera=one.camera
            )
            for one in service.config.problems
        ),
        imu=imu_document(service),
        store=StoreDocument(
            pictures=len(service.store),
            bytes=service.store.size,
            max_age_days=retention.max_age_days,
            max_size_mb=retention.max_size_mb,
        ),
        settings=settings_document(service),
        stopped_services=service.services.stopped,
    )
