"""CSIcamera: the settings of a Jetson's CSI camera. See docs/protocols/nanocam.md, "The camera"."""

from asynccam.errors import StateError, UsageError
from asynccam.recording.gstreamer import find_installation, known_installation
from asynccam.systems.nanocam.csi.graph import CameraSource, Media, stand_in_for
from asynccam.systems.nanocam.csi.settings import CameraSettings


class CSIcamera(CameraSettings):
    """Description of a camera at the CSI connector of a Jetson; a stream it is connected to opens it.

    Every setting of `CameraSettings` is an attribute, a keyword here and a setter of the maker's name. It
    is checked when it is set; the camera's default applies otherwise::

        cam = CSIcamera(sensor_id=0, resolution=(1920, 1080))
        cam.set_exposure_time(500000, 100000000)

    If GStreamer has no ``nvarguscamerasrc``, a test picture replaces the camera, or a V4L2 camera if a
    ``device`` is given, with software encoders; see `stand_in`.

    Args:
        device: V4L2 camera that replaces it, such as ``/dev/video0``, on a Jetson too.
        time_code: Whether a test picture shows the time of day in video.
        settings: Any setting.

    Attributes:
        device, time_code: As given.

    Raises:
        UsageError: Unknown setting, or a value out of range.
    """

    def __init__(self, *, device: str | None = None, time_code: bool = False, **settings: object) -> None:
        if device == "":
            raise UsageError("device must be a name such as /dev/video0, or None")
        self.device = device
        self.time_code = time_code
        super().__init__(**settings)

    def __repr__(self) -> str:
        given = {"device": self.device} if self.device is not None else {}
        settings = ", ".join(f"{name}={value!r}" for name, value in {**given, **self.changed}.items())
        return f"CSIcamera({settings})"

    def copy(self, **settings: object) -> "CSIcamera":
        """Return a camera with the same settings, changed by these; None unsets. Errors as of the class."""
        return CSIcamera(device=self.device, time_code=self.time_code, **{**self.changed, **settings})

    def with_resolution(self, width: int, height: int) -> "CSIcamera":
        """Return the same camera at another resolution; errors as of the class."""
        return self.copy(resolution=(width, height))

    @property
    def stand_in(self) -> str | None:
        """Return what replaces the camera on this computer, in words, or None on a Jetson.

        Raises:
            StateError: `look` was not awaited yet.
        """
        if self.device is not None:
            return stand_in_for(self.device)
        installed = known_installation()
        if installed is None:
            raise StateError("it is not known whether this is a Jetson; await look() first")
        return stand_in_for(None, installed.elements)

    async def look(self) -> str | None:
        """Check what GStreamer has on this computer; return `stand_in`.

        Raises:
            RecordingError: GStreamer is not installed.
        """
        await find_installation()
        return self.stand_in

    def source(self, media: Media = "video", *, frames: int = 0) -> CameraSource:
        """Return the camera as it is set now, as a source of `asynccam.recording.Pipeline`.

        ``media`` is encoded ``video``, ``pictures`` as JPEG, or ``raw`` frames. The source ends after so many
        ``frames``, or after `num_buffers` or `timeout` if one is set; 0 for never.
        """
        return CameraSource(self.copy(), self.device, media, frames, self.time_code)
