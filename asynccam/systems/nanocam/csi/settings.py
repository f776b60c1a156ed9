"""Settings of a CSI camera, checked when they are set, and the maker's setters for them.

See docs/protocols/nanocam.md.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from fractions import Fraction
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar, overload

from asynccam.errors import UsageError

T = TypeVar("T")
E = TypeVar("E", bound=Enum)
N = TypeVar("N", int, float)


@dataclass(frozen=True, slots=True)
class SettingType(Generic[T]):
    """Type and range of a setting, in words; ``read`` raises `ValueError` or `TypeError` for other values."""

    range: str
    read: Callable[[object], T]


class Setting(Generic[T]):
    """Descriptor of one setting of a `CameraSettings` class: unset, it reads as its default; None unsets it.

    Attributes:
        name: Name of the attribute.
        kind: Type and range.
        default: Value while it is not set.
        gst: Name of the property of ``nvarguscamerasrc``, by default the setting's with dashes, or ``""`` for
            a setting of asynccam's own.
    """

    name: str
    gst: str

    def __init__(self, kind: SettingType[T], default: T, doc: str, *, gst: str | None = None) -> None:
        self.kind = kind
        self.default = default
        self._given_gst = gst
        self.__doc__ = f"{doc} ({kind.range}; default {default})"

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        self.gst = name.replace("_", "-") if self._given_gst is None else self._given_gst

    @overload
    def __get__(self, settings: None, owner: type) -> "Setting[T]": ...

    @overload
    def __get__(self, settings: "CameraSettings", owner: type) -> T: ...

    def __get__(self, settings: "CameraSettings | None", owner: type) -> "Setting[T] | T":
        if settings is None:
            return self
        value: T = settings.changed.get(self.name, self.default)
        return value

    def __set__(self, settings: "CameraSettings", value: object) -> None:
        settings.change({self.name: value})

    def check(self, value: object) -> T:
        """Return the converted value."""
        try:
            return self.kind.read(value)
        except (ValueError, TypeError, OverflowError, ArithmeticError):
            raise UsageError(f"{self.name} must be {self.kind.range}, not {value!r}") from None


def whole(low: int, high: int) -> SettingType[int]:
    """Return the type of an integer, also as text."""
    return SettingType(
        f"a whole number from {low} to {high}", lambda value: _within(_whole(value), low, high)
    )


def real(low: float, high: float) -> SettingType[float]:
    """Return the type of a finite number, also as text."""
    return SettingType(f"a number from {low:g} to {high:g}", lambda value: _within(_real(value), low, high))


def flag() -> SettingType[bool]:
    """Return the type of True or False, also as text or as 1 and 0."""
    words = {"true": True, "1": True, "false": False, "0": False}

    def read(value: object) -> bool:
        if isinstance(value, str):
            value = words.get(value.strip().lower())
        if not isinstance(value, (bool, int)) or value not in (0, 1):
            raise ValueError
        return bool(value)

    return SettingType("true or false", read)


def choice(modes: type[E]) -> SettingType[E]:
    """Return the type of an enum's member, also as its value or name, in lower case and with dashes."""

    def read(value: object) -> E:
        if isinstance(value, modes):
            return value
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise ValueError
        for mode in modes:
            if str(value).strip().upper().replace("-", "_") in (mode.name, str(mode.value).upper()):
                return mode
        raise ValueError

    return SettingType(f"a {modes.__name__}: {', '.join(mode.name.lower() for mode in modes)}", read)


def span(number: SettingType[T], unit: str) -> SettingType[tuple[T, T] | None]:
    """Return the type of a range: two numbers, the low one first, also as ``"low high"``."""

    def read(value: object) -> tuple[T, T] | None:
        low, high = map(number.read, _pair(value.split() if isinstance(value, str) else value))
        if _real(low) > _real(high):
            raise ValueError
        return low, high

    return SettingType(f"a range of {unit}, (low, high), each {number.range}", read)


def sides(minimum: int, maximum: int) -> SettingType[tuple[int, int]]:
    """Return the type of width and height in pixels, both even as video needs them."""
    side = whole(minimum, maximum)

    def read(value: object) -> tuple[int, int]:
        width, height = map(side.read, _pair(value.lower().split("x") if isinstance(value, str) else value))
        if width % 2 or height % 2:
            raise ValueError
        return width, height

    return SettingType(f"width and height, each an even number from {minimum} to {maximum}", read)


def rate(maximum: int) -> SettingType[Fraction]:
    """Return the type of a frame rate."""

    def read(value: object) -> Fraction:
        if isinstance(value, bool) or not isinstance(value, (str, int, float, Fraction)):
            raise ValueError
        number = Fraction(value).limit_denominator(1001)
        if not 0 < number <= maximum:
            raise ValueError
        return number

    return SettingType(f"frames per second, above 0 and up to {maximum}", read)


def word(pattern: str, description: str) -> SettingType[str | None]:
    """Return the type of text that matches a pattern."""

    def read(value: object) -> str | None:
        if not isinstance(value, str) or not re.fullmatch(pattern, value, re.ASCII):
            raise ValueError
        return value

    return SettingType(description, read)


def _pair(value: object) -> Sequence[object]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError
    return value


def _within(number: N, low: float, high: float) -> N:
    if not low <= number <= high:
        raise ValueError
    return number


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ValueError
    return int(value)


def _real(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (str, int, float, Fraction)):
        raise ValueError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


class WhiteBalance(IntEnum):
    """``wbmode``: kind of light."""

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
    """``tnr-mode``: noise reduction by comparison of frames."""

    OFF = 0
    FAST = 1
    HIGH_QUALITY = 2


class EdgeEnhancement(IntEnum):
    """``ee-mode``: edge enhancement."""

    OFF = 0
    FAST = 1
    HIGH_QUALITY = 2


class Antibanding(IntEnum):
    """``aeantibanding``: exposure synchronised with the mains frequency."""

    OFF = 0
    AUTO = 1
    HZ_50 = 2
    HZ_60 = 3


class FlipMethod(IntEnum):
    """``flip-method`` of ``nvvidconv``: rotation or mirroring of the picture."""

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
        """Return whether width and height are exchanged."""
        return bool(self % 2)


class Encoder(Enum):
    """Video encoders of a Jetson. The maker has tested the H.264 ones only."""

    OMX_H264 = "omxh264enc"
    OMX_H265 = "omxh265enc"
    OMX_VP8 = "omxvp8enc"
    OMX_VP9 = "omxvp9enc"
    NVV4L2_H264 = "nvv4l2h264enc"
    NVV4L2_H265 = "nvv4l2h265enc"
    NVV4L2_VP8 = "nvv4l2vp8enc"
    NVV4L2_VP9 = "nvv4l2vp9enc"


_MAX_INT: Final = 2**31 - 1
_FORMATS: Final = "[A-Za-z0-9_]{2,20}"


class CameraSettings:
    """Settings of a CSI camera: the properties of ``nvarguscamerasrc``, and six of asynccam's own.

    They are checked when they are set, all at once or one by one. Each setter takes the values of its
    attribute; numbers may be text.
    """

    name = Setting(word("[A-Za-z][A-Za-z0-9_-]*", "a name of letters, digits, - and _"), None, "Name")
    # The pattern matches nothing: GStreamer sets the parent itself, and refuses it from anyone else.
    parent = Setting(word("(?!)", "set by GStreamer only: the pipeline"), None, "Object it belongs to")
    blocksize = Setting(whole(0, 2**32 - 1), 4096, "Bytes to read at once")
    num_buffers = Setting(
        whole(-1, _MAX_INT), -1, "Frames of one picture, of which the last is kept; not for video"
    )
    do_timestamp = Setting(flag(), True, "Stamp frames with the time of the stream")
    silent = Setting(flag(), True, "Print nothing")
    timeout = Setting(whole(0, _MAX_INT), 0, "Seconds of one picture, instead of num_buffers; not for video")
    wbmode = Setting(choice(WhiteBalance), WhiteBalance.AUTO, "White balance")
    saturation = Setting(real(0, 2), 1.0, "Saturation")
    sensor_id = Setting(whole(0, 255), 0, "Which camera")
    exposure_time_range = Setting(
        span(whole(1, 2**63 - 1), "nanoseconds"),
        None,
        "Exposure times to choose from",
        gst="exposuretimerange",
    )
    gain_range = Setting(span(real(0, 1e6), "gains"), None, "Analogue gains to choose from", gst="gainrange")
    isp_digital_gain_range = Setting(
        span(real(0, 1e6), "gains"), None, "Digital gains to choose from", gst="ispdigitalgainrange"
    )
    tnr_strength = Setting(real(-1, 1), -1.0, "Strength of noise reduction, -1 for the camera's own")
    tnr_mode = Setting(choice(NoiseReduction), NoiseReduction.FAST, "Noise reduction")
    ee_mode = Setting(choice(EdgeEnhancement), EdgeEnhancement.FAST, "Edge enhancement")
    ee_strength = Setting(real(-1, 1), -1.0, "Strength of edge enhancement, -1 for the camera's own")
    aeantibanding = Setting(choice(Antibanding), Antibanding.AUTO, "Antibanding")
    exposure_compensation = Setting(
        real(-2, 2), 0.0, "Exposure compensation in stops", gst="exposurecompensation"
    )
    ae_lock = Setting(flag(), False, "Hold the exposure", gst="aelock")
    awb_lock = Setting(flag(), False, "Hold the white balance", gst="awblock")
    maxperf = Setting(flag(), False, "The Jetson's highest clocks")

    resolution = Setting(
        sides(16, 16384), (3280, 2464), "Pixels of the sensor, before the picture is turned", gst=""
    )
    framerate = Setting(rate(1000), Fraction(20), "Frame rate", gst="")
    flip_method = Setting(choice(FlipMethod), FlipMethod.ROTATE_180, "Rotation of the picture", gst="")
    capture_format = Setting(
        word(_FORMATS, "the name of a pixel format"), "NV12", "Pixel format of the sensor", gst=""
    )
    encoder = Setting(choice(Encoder), Encoder.OMX_H264, "Video encoder of the Jetson", gst="")
    bitrate = Setting(whole(1, 1_000_000), 4000, "kbit/s of a video", gst="")

    def __init__(self, **settings: object) -> None:
        self._changed: dict[str, Any] = {}
        self.change(settings)

    @property
    def changed(self) -> Mapping[str, Any]:
        """Return the settings that are set, by name; the others have their default."""
        return MappingProxyType(self._changed)

    @classmethod
    def settings(cls) -> Mapping[str, Setting[Any]]:
        """Return all settings by name."""
        return {name: value for name, value in vars(CameraSettings).items() if isinstance(value, Setting)}

    def change(self, settings: Mapping[str, object]) -> None:
        """Set several settings, all or none; None unsets.

        Raises:
            UsageError: Unknown setting, or a value out of range.
        """
        known = self.settings()
        changed = dict(self._changed)
        for name, value in settings.items():
            if name not in known:
                raise UsageError(f"unknown setting {name!r}; expected one of {', '.join(known)}")
            changed.pop(name, None)
            if value is not None:
                changed[name] = known[name].check(value)
        if changed.get("timeout", 0) > 0 and changed.get("num_buffers", -1) >= 0:
            raise UsageError("timeout and num_buffers exclude each other")
        self._changed = changed

    # -- the maker's setters, under the maker's names ---------------------------------------------

    def set_name(self, name: object) -> None:
        """Set `name`."""
        self.change({"name": name})

    def set_parent(self, parent: object) -> None:
        """Set `parent`."""
        self.change({"parent": parent})

    def set_blocksize(self, size: object) -> None:
        """Set `blocksize`."""
        self.change({"blocksize": size})

    def set_num_buffers(self, number: object) -> None:
        """Set `num_buffers`."""
        self.change({"num_buffers": number})

    def set_timestamp(self, on: object) -> None:
        """Set `do_timestamp`."""
        self.change({"do_timestamp": on})

    def set_silent(self, on: object) -> None:
        """Set `silent`."""
        self.change({"silent": on})

    def set_timeout(self, seconds: object) -> None:
        """Set `timeout`."""
        self.change({"timeout": seconds})

    def set_white_balance(self, mode: object) -> None:
        """Set `wbmode`."""
        self.change({"wbmode": mode})

    def set_saturation(self, saturation: object) -> None:
        """Set `saturation`."""
        self.change({"saturation": saturation})

    def set_sensorid(self, number: object) -> None:
        """Set `sensor_id`."""
        self.change({"sensor_id": number})

    def set_exposure_time(self, low: object, high: object) -> None:
        """Set `exposure_time_range`."""
        self.change({"exposure_time_range": (low, high)})

    def set_gain(self, low: object, high: object) -> None:
        """Set `gain_range`."""
        self.change({"gain_range": (low, high)})

    def set_isp_gain(self, low: object, high: object) -> None:
        """Set `isp_digital_gain_range`."""
        self.change({"isp_digital_gain_range": (low, high)})

    def set_tnr_strength(self, strength: object) -> None:
        """Set `tnr_strength`."""
        self.change({"tnr_strength": strength})

    def set_tnr_mode(self, mode: object) -> None:
        """Set `tnr_mode`."""
        self.change({"tnr_mode": mode})

    def set_edge_enhance_mode(self, mode: object) -> None:
        """Set `ee_mode`."""
        self.change({"ee_mode": mode})

    def set_edge_enhance_strength(self, strength: object) -> None:
        """Set `ee_strength`."""
        self.change({"ee_strength": strength})

    def set_ae_antibanding_mode(self, mode: object) -> None:
        """Set `aeantibanding`."""
        self.change({"aeantibanding": mode})

    def set_exposure_comp(self, stops: object) -> None:
        """Set `exposure_compensation`."""
        self.change({"exposure_compensation": stops})

    def set_auto_exposure_lock(self, on: object) -> None:
        """Set `ae_lock`."""
        self.change({"ae_lock": on})

    def set_auto_white_bal_lock(self, on: object) -> None:
        """Set `awb_lock`."""
        self.change({"awb_lock": on})

    def set_max_performance(self, on: object) -> None:
        """Set `maxperf`."""
        self.change({"maxperf": on})

    def set_resolution(self, width: object, height: object) -> None:
        """Set `resolution`."""
        self.change({"resolution": (width, height)})

    def set_framerate(self, rate: object) -> None:
        """Set `framerate`."""
        self.change({"framerate": rate})

    def set_flip_method(self, method: object) -> None:
        """Set `flip_method`."""
        self.change({"flip_method": method})

    def set_capture_format(self, name: object) -> None:
        """Set `capture_format`."""
        self.change({"capture_format": name})

    def set_encoder(self, encoder: object) -> None:
        """Set `encoder`."""
        self.change({"encoder": encoder})

    def set_bitrate(self, kilobits: object) -> None:
        """Set `bitrate`."""
        self.change({"bitrate": kilobits})
