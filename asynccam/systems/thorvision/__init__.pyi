# The public names and where they live; `__init__.py` brings each in when it is first asked for.
from .camera import ThorVisionCamera as ThorVisionCamera
from .client import (
    ThorVisionClient as ThorVisionClient,
    XdaqClient as XdaqClient,
)
from .events import (
    CameraAdded as CameraAdded,
    CameraRemoved as CameraRemoved,
    ConnectionStateChanged as ConnectionStateChanged,
    ServerNotice as ServerNotice,
)
from .models import (
    Camera as Camera,
    Capability as Capability,
    Versions as Versions,
)
from .ports import PortPool as PortPool
from .results import (
    OpenStream as OpenStream,
    StreamStart as StreamStart,
    StreamStop as StreamStop,
)
from .simulator.simulator import (
    ThorVisionSimulator as ThorVisionSimulator,
    simulated_camera as simulated_camera,
)
from .simulator.stream import ServerFaults as ServerFaults
from .stream import (
    Split as Split,
    StreamSettings as StreamSettings,
)
