"""The settings of a CSI camera, and the maker's setters for them. See docs/protocols/nanocam.md."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final

from asynccam.errors import UsageError
from asynccam.systems.nanocam.modes import (
    Antibanding,
    EdgeEnhancement,
    Encoder,
    FlipMethod,
    NoiseReduction,
    WhiteBalance,
)
from asynccam.systems.nanocam.settings import (
    Kind,
    Setting,
    Settings,
    choice,
    flag,
    rate,
    real,
    sides,
    span,
    whole,
    word,
)

_MOST: Final = 2**31 - 1
_FORMATS: Final = "[A-Za-z0-9_]{2,20}"


def _no_parent(value: object) -> None:
    raise ValueError


class CameraSettings(Settings):
    """What can be set on a CSI camera: the properties of ``nvarguscamerasrc``, and four beside them.

    Each setter takes what its attribute takes, numbers written as text too.
    """

    name = Setting(
        word("[A-Za-z][A-Za-z0-9_-]*", "a name of letters, digits, - and _"), None, "Name", gst="name"
    )
    parent = Setting[None](
        Kind("GStreamer's own to set: the pipeline", _no_parent), None, "Object it belongs to", gst="parent"
    )
    blocksize = Setting(whole(0, 2**32 - 1), 4096, "Bytes to read at once", gst="blocksize")
    num_buffers = Setting(
        whole(-1, _MOST),
        -1,
        "Frames of one picture, the last of which is kept; not for video",
        gst="num-buffers",
    )
    do_timestamp = Setting(flag(), True, "Stamp frames with the time of the stream", gst="do-timestamp")
    silent = Setting(flag(), True, "Print nothing", gst="silent")
    timeout = Setting(
        whole(0, _MOST), 0, "Seconds of one picture, instead of num_buffers; not for video", gst="timeout"
    )
    wbmode = Setting(choice(WhiteBalance), WhiteBalance.AUTO, "White balance", gst="wbmode")
    saturation = Setting(real(0, 2), 1.0, "Saturation", gst="saturation")
    sensor_id = Setting(whole(0, 255), 0, "Which camera", gst="sensor-id")
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
    tnr_strength = Setting(
        real(-1, 1), -1.0, "Strength of noise reduction, -1 for the camera's own", gst="tnr-strength"
    )
    tnr_mode = Setting(choice(NoiseReduction), NoiseReduction.FAST, "Noise reduction", gst="tnr-mode")
    ee_mode = Setting(choice(EdgeEnhancement), EdgeEnhancement.FAST, "Edge enhancement", gst="ee-mode")
    ee_strength = Setting(
        real(-1, 1), -1.0, "Strength of edge enhancement, -1 for the camera's own", gst="ee-strength"
    )
    aeantibanding = Setting(choice(Antibanding), Antibanding.AUTO, "Antibanding", gst="aeantibanding")
    exposure_compensation = Setting(
        real(-2, 2), 0.0, "Exposure compensation in stops", gst="exposurecompensation"
    )
    ae_lock = Setting(flag(), False, "Hold the exposure", gst="aelock")
    awb_lock = Setting(flag(), False, "Hold the white balance", gst="awblock")
    maxperf = Setting(flag(), False, "The Jetson's highest clocks", gst="maxperf")

    resolution = Setting(sides(16, 16384), (3280, 2464), "Pixels of the sensor, before the picture is turned")
    framerate = Setting(rate(1000), Fraction(20), "Frame rate")
    flip_method = Setting(choice(FlipMethod), FlipMethod.ROTATE_180, "How the picture is turned")
    capture_format = Setting(
        word(_FORMATS, "the name of a pixel format"), "NV12", "What the sensor is read as"
    )
    encoder = Setting(choice(Encoder), Encoder.OMX_H264, "Video encoder of the Jetson")
    bitrate = Setting(whole(1, 1_000_000), 4000, "kbit/s of a video")

    def _agree(self, changed: Mapping[str, Any]) -> None:
        if changed.get("timeout", 0) > 0 and changed.get("num_buffers", -1) >= 0:
            raise UsageError("timeout and num_buffers exclude each other")

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
