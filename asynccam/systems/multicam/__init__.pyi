# The public names and where they live; `__init__.py` brings each in when it is first asked for.
from .armed_start import ArmedCommand
from .camera import MultiCamCamera
from .client import MultiCamClient
from .device.clock import NtpOffset
from .device.commands import DeviceFaults
from .device.connection import DeviceLimits
from .device.device import MultiCamDevice
from .device.recording import ArmsAhead, GstRecorder, RecorderHook
from .discovery import MultiCamDiscovery, discover
from .models import (
    COMMAND_TIMEOUT,
    DOWNLOAD_CHUNK_SIZE,
    DOWNLOAD_STALL_TIMEOUT,
    MAX_ROUND_TRIP,
    NTP_PORT,
    NTP_SERVER,
    SAFE_COMMAND_SIZE,
    SERVICE_TYPE,
    SYNC_DELAY,
    TCP_PORT,
    CommandMessage,
    CommandType,
    DeviceStatus,
    DeviceType,
    ErrorResponse,
    FileMetadata,
    FileResponse,
    ListFilesResponse,
    StatusResponse,
    StopRecordingResponse,
    UploadItem,
    UploadStatus,
)

__all__ = [
    "COMMAND_TIMEOUT",
    "DOWNLOAD_CHUNK_SIZE",
    "DOWNLOAD_STALL_TIMEOUT",
    "MAX_ROUND_TRIP",
    "NTP_PORT",
    "NTP_SERVER",
    "SAFE_COMMAND_SIZE",
    "SERVICE_TYPE",
    "SYNC_DELAY",
    "TCP_PORT",
    "ArmedCommand",
    "ArmsAhead",
    "CommandMessage",
    "CommandType",
    "DeviceFaults",
    "DeviceLimits",
    "DeviceStatus",
    "DeviceType",
    "ErrorResponse",
    "FileMetadata",
    "FileResponse",
    "GstRecorder",
    "ListFilesResponse",
    "MultiCamCamera",
    "MultiCamClient",
    "MultiCamDevice",
    "MultiCamDiscovery",
    "NtpOffset",
    "RecorderHook",
    "StatusResponse",
    "StopRecordingResponse",
    "UploadItem",
    "UploadStatus",
    "discover",
]
