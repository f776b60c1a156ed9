# The public names and where they live; `__init__.py` brings each in when it is first asked for.
from .camera import (
    MediaPorts as MediaPorts,
    NanocamCamera as NanocamCamera,
)
from .client import MediaClient as MediaClient
from .client_session import ClientTimeouts as ClientTimeouts
from .csi.camera import CSIcamera as CSIcamera
from .csi.settings import (
    Antibanding as Antibanding,
    EdgeEnhancement as EdgeEnhancement,
    Encoder as Encoder,
    FlipMethod as FlipMethod,
    NoiseReduction as NoiseReduction,
    WhiteBalance as WhiteBalance,
)
from .server.options import (
    MEDIA_PORT as MEDIA_PORT,
    MESSAGE_PORT as MESSAGE_PORT,
    ServerLimits as ServerLimits,
    ServerPolicy as ServerPolicy,
    WhenBusy as WhenBusy,
)
from .server.server import MediaServer as MediaServer
from .streams import (
    ImageStream as ImageStream,
    VideoStream as VideoStream,
)
