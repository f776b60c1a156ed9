# The public names and where they live; `__init__.py` brings each in when it is first asked for.
from .camera import MediaPorts, NanocamCamera
from .client import MediaClient
from .client_session import ClientTimeouts
from .csi.camera import CSIcamera
from .csi.settings import Antibanding, EdgeEnhancement, Encoder, FlipMethod, NoiseReduction, WhiteBalance
from .server.options import MEDIA_PORT, MESSAGE_PORT, ServerLimits, ServerPolicy, WhenBusy
from .server.server import MediaServer
from .streams import ImageStream, VideoStream

__all__ = [
    "MEDIA_PORT",
    "MESSAGE_PORT",
    "Antibanding",
    "CSIcamera",
    "ClientTimeouts",
    "EdgeEnhancement",
    "Encoder",
    "FlipMethod",
    "ImageStream",
    "MediaClient",
    "MediaPorts",
    "MediaServer",
    "NanocamCamera",
    "NoiseReduction",
    "ServerLimits",
    "ServerPolicy",
    "VideoStream",
    "WhenBusy",
    "WhiteBalance",
]
