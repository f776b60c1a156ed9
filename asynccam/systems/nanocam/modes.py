"""The modes of a Jetson's CSI camera, with the numbers `nvarguscamerasrc` knows them by."""

from enum import Enum, IntEnum


class WhiteBalance(IntEnum):
    """``wbmode``: what the light is like."""

    OFF = 0
    AUTO = 1
    INCANDESCENT = 2
    FLUORESCENT = 3
    WARM_FLUORESCENT = 4
    DAYLIGHT = 5
    CLOUDY_DAYLIGHT = 6
    TWILIGHT = 7
    SHADE = 8
    MANUAL = 9


class NoiseReduction(IntEnum):
    """``tnr-mode``: noise taken out by comparing frames."""

    OFF = 0
    FAST = 1
    HIGH_QUALITY = 2


class EdgeEnhancement(IntEnum):
    """``ee-mode``: edges made sharper."""

    OFF = 0
    FAST = 1
    HIGH_QUALITY = 2


class Antibanding(IntEnum):
    """``aeantibanding``: exposure kept in step with lamps on the mains."""

    OFF = 0
    AUTO = 1
    HZ_50 = 2
    HZ_60 = 3


class FlipMethod(IntEnum):
    """``flip-method`` of ``nvvidconv``: how the picture is turned or mirrored."""

    NONE = 0
    COUNTERCLOCKWISE = 1
    ROTATE_180 = 2
    CLOCKWISE = 3
    HORIZONTAL_FLIP = 4
    UPPER_RIGHT_DIAGONAL = 5
    VERTICAL_FLIP = 6
    UPPER_LEFT_DIAGONAL = 7

    @property
    def transposes(self) -> bool:
        """Whether width becomes height."""
        return bool(self % 2)


class Encoder(Enum):
    """The Jetson's video encoders. The maker knows only the H.264 ones to work."""

    OMX_H264 = "omxh264enc"
    OMX_H265 = "omxh265enc"
    OMX_VP8 = "omxvp8enc"
    OMX_VP9 = "omxvp9enc"
    NVV4L2_H264 = "nvv4l2h264enc"
    NVV4L2_H265 = "nvv4l2h265enc"
    NVV4L2_VP8 = "nvv4l2vp8enc"
    NVV4L2_VP9 = "nvv4l2vp9enc"
