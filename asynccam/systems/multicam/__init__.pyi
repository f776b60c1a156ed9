# The public names and where they live; `__init__.py` brings each in when it is first asked for.
from .connection import ArmedCommand as ArmedCommand
from .camera import MultiCamCamera as MultiCamCamera
from .client import MultiCamClient as MultiCamClient
from .device.clock import NtpOffset as NtpOffset
from .device.commands import DeviceFaults as DeviceFaults
from .device.connection import DeviceLimits as DeviceLimits
from .device.device import MultiCamDevice as MultiCamDevice
from .device.recording import (
    ArmsAhead as ArmsAhead,
    GstRecorder as GstRecorder,
    RecorderHook as RecorderHook,
)
from .discovery import (
    MultiCamDiscovery as MultiCamDiscovery,
    discover as discover,
)
from .models import (
    COMMAND_TIMEOUT as COMMAND_TIMEOUT,
    DOWNLOAD_CHUNK_SIZE as DOWNLOAD_CHUNK_SIZE,
    DOWNLOAD_STALL_TIMEOUT as DOWNLOAD_STALL_TIMEOUT,
    MAX_ROUND_TRIP as MAX_ROUND_TRIP,
    NTP_PORT as NTP_PORT,
    NTP_SERVER as NTP_SERVER,
    SAFE_COMMAND_SIZE as SAFE_COMMAND_SIZE,
    SERVICE_TYPE as SERVICE_TYPE,
    SYNC_DELAY as SYNC_DELAY,
    TCP_PORT as TCP_PORT,
    CommandMessage as CommandMessage,
    CommandType as CommandType,
    DeviceStatus as DeviceStatus,
    DeviceType as DeviceType,
    ErrorResponse as ErrorResponse,
    FileMetadata as FileMetadata,
    FileResponse as FileResponse,
    ListFilesResponse as ListFilesResponse,
    StatusResponse as StatusResponse,
    StopRecordingResponse as StopRecordingResponse,
    UploadItem as UploadItem,
    UploadStatus as UploadStatus,
)
