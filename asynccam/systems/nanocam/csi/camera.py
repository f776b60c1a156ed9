"""CSIcamera: everything that can be set on a Jetson's CSI camera, and the graph it becomes.

See docs/protocols/nanocam.md, "The camera".
"""

from asynccam.errors import StateError, UsageError
from asynccam.recording.gstreamer import find_installation, known_installation
from asynccam.systems.nanocam.csi.graph import CameraSource, Media, stand_in_for
from asynccam.systems.nanocam.csi.settings import CameraSettings


class CSIcamera(CameraSettings):
    """A camera at the CSI connector of a Jetson, described; it is opened by the stream it is connected to.

    Every setting of `CameraSettings` is an attribute, a keyword here and a setter of the maker's name; it
    is checked when it is set, and left to the camera when it is not::

        cam = CSIcamera(sensor_id=0, resolution=(1920, 1080))
        cam.set_exposure_time(500000, 100000000)

    Where GStreamer has no ``nvarguscamerasrc`` the same description becomes a stand-in: a test picture, or a
    V4L2 camera when a ``device`` is named, with software encoders. `stand_in` says so.

    Args:
        device: A V4L2 camera to take in its place, ``/dev/video0`` for example, on a Jetson too.
        time_code: Whether a test picture in its place shows the time of day in video.
        settings: Any setting.

    Attributes:
        device, time_code: As given.

    Raises:
        UsageError: There is no such setting, or one is out of its range.
    """

    def __init__(self, *, device: str | None = None, time_code: bool = False, **settings: object) -> None:
        if device == "":
            raise UsageError("a device has a name, /dev/video0 for example")
        self.device = device
        self.time_code = time_code
        super().__init__(**settings)

    def __repr__(self) -> str:
        given = {"device": self.device} if self.device is not None else {}
        settings = ", ".join(f"{name}={value!r}" for name, value in {**given, **self.changed}.items())
        return f"CSIcamera({settings})"

    def copy(self, **settings: object) -> "CSIcamera":
        """Another camera with the same settings and these on top; None unsets.

        Raises:
            UsageError: As for the constructor.
        """
        return CSIcamera(device=self.device, time_code=self.time_code, **{**self.changed, **settings})

    def with_resolution(self, width: int, height: int) -> "CSIcamera":
        """The same camera at another resolution.

        Raises:
            UsageError: It cannot be that large or small.
        """
        return self.copy(resolution=(width, height))

    @property
    def stand_in(self) -> str | None:
        """What takes the camera's place on this computer, in words, or None on a Jetson.

        Raises:
            StateError: Nobody has looked at what GStreamer has; await `look` first.
        """
        if self.device is not None:
            return stand_in_for(self.device)
        installed = known_installation()
        if installed is None:
            raise StateError("nobody has looked whether this is a Jetson; await look() first")
        return stand_in_for(None, installed.elements)

    async def look(self) -> str | None:
        """Find out what this computer has; then the same as `stand_in`.

        Raises:
            RecordingError: GStreamer is not installed.
        """
        await find_installation()
        return self.stand_in

    def source(self, media: Media = "video", *, frames: int = 0) -> CameraSource:
        """The camera as it is set now, as a source of `asynccam.recording.Pipeline`.

        Args:
            media: ``video`` encoded, ``pictures`` as JPEG, or ``raw`` frames.
            frames: It ends after so many, or after `num_buffers` or `timeout` where one is set; 0 for never.
        """
        return CameraSource(self.copy(), self.device, media, frames, self.time_code)
