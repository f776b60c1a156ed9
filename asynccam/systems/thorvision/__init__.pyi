# The public names and where they live; `__init__.py` brings each in when it is first asked for.
from .camera import ThorVisionCamera
from .client import ThorVisionClient, XdaqClient
from .events import (
    CameraAdded,
    CameraRemoved,
    ConnectionStateChanged,
    ServerNotice,
)
from .models import Camera, Capability, Versions
from .ports import PortPool
from .results import OpenStream, StreamStart, StreamStop
from .simulator.simulator import ThorVisionSimulator, simulated_camera
from .simulator.stream import ServerFaults
from .stream import Split, StreamSettings

__all__ = [
    "Camera",
    "CameraAdded",
    "CameraRemoved",
    "Capability",
    "ConnectionStateChanged",
    "OpenStream",
    "PortPool",
    "ServerFaults",
    "ServerNotice",
    "Split",
    "StreamSettings",
    "StreamStart",
    "StreamStop",
    "ThorVisionCamera",
    "ThorVisionClient",
    "ThorVisionSimulator",
    "Versions",
    "XdaqClient",
    "simulated_camera",
]
