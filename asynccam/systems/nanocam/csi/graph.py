"""GStreamer elements for a camera's settings, on a Jetson or off it. See docs/protocols/nanocam.md."""

from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction
from typing import Any, Final, Literal

from asynccam.recording.elements import Chain, Codec, GstElement, Value, caps, encode
from asynccam.recording.sources import Stream, with_time_code
from asynccam.systems.nanocam.csi.settings import CameraSettings, Encoder, FlipMethod

Media = Literal["video", "pictures", "raw"]
"""Encoded video, one JPEG per frame, or unencoded frames."""

_CSI: Final = "nvarguscamerasrc"
_CODECS: Final[dict[str, Codec]] = {"H264": "h264", "H265": "h265", "VP8": "vp8", "VP9": "vp9"}
_TURNED: Final = {
    # videoflip numbers its methods differently from nvvidconv.
    FlipMethod.COUNTERCLOCKWISE: 3,
    FlipMethod.ROTATE_180: 2,
    FlipMethod.CLOCKWISE: 1,
    FlipMethod.HORIZONTAL_FLIP: 4,
    FlipMethod.UPPER_RIGHT_DIAGONAL: 7,
    FlipMethod.VERTICAL_FLIP: 5,
    FlipMethod.UPPER_LEFT_DIAGONAL: 6,
}


def stand_in_for(device: str | None, installed: frozenset[str] = frozenset()) -> str | None:
    """Return what replaces the CSI camera, in words, or None if there is one."""
    if device is not None:
        return f"V4L2 camera {device} (v4l2src) and software encoders"
    return None if _CSI in installed else "test picture (videotestsrc) and software encoders"


@dataclass(frozen=True, slots=True)
class CameraSource:
    """Source of `asynccam.recording.Pipeline`; the fields are explained in `CSIcamera`."""

    camera: CameraSettings
    device: str | None
    media: Media
    frames: int
    time_code: bool = False

    @property
    def codec(self) -> Codec:
        """Return the codec of the stream."""
        if self.media == "video":
            return _CODECS[self.camera.encoder.name.rpartition("_")[2]]
        return "jpeg" if self.media == "pictures" else "raw"

    def stream(self, installed: frozenset[str]) -> Stream:
        """Return the elements: the Jetson's if it has them and no device replaces the camera."""
        if stand_in_for(self.device, installed) is None:
            return Stream((*self._jetson_picture(), *self._jetson_encode(installed)), self.codec)
        if self.time_code and self.device is None and self.media == "video":
            # Of the size after the turn, but upright, so that the time can be read.
            fps = Fraction(self.camera.framerate)
            picture, code, feed = with_time_code("ball", "nanocam", self._turned, fps, of_day=True)
            chain = (*picture, *self._stand_in_encode(installed))
            return Stream(chain, self.codec, (code,), feed)
        return Stream((*self._stand_in_picture(), *self._stand_in_encode(installed)), self.codec)

    @property
    def _turned(self) -> tuple[int, int]:
        width, height = self.camera.resolution
        return (height, width) if self.camera.flip_method.transposes else (width, height)

    def _jetson_picture(self) -> Chain:
        camera = self.camera
        sensor = _sized_caps(
            camera.resolution, "(memory:NVMM)", format=camera.capture_format, framerate=camera.framerate
        )
        # The converter's own 32-bit format is one step from what NumPy is given.
        form = "BGRx" if self.media == "raw" else None
        return (
            GstElement(_CSI, self._properties()),
            sensor,
            GstElement("nvvidconv", {"flip-method": int(camera.flip_method)}),
            _sized_caps(self._turned, format=form),
        )

    def _properties(self) -> dict[str, Value]:
        """Return the set properties; video has no length, because the camera daemon hung with one."""
        changed = self.camera.changed
        settings = {
            setting.gst: _property(changed[name])
            for name, setting in self.camera.settings().items()
            if setting.gst and name in changed and name not in ("num_buffers", "timeout")
        }
        if self.frames and self.camera.timeout > 0:
            settings["timeout"] = self.camera.timeout
        elif self.frames:
            settings["num-buffers"] = self._frames
        return settings

    @property
    def _frames(self) -> int:
        """Return the number of frames after which the source ends, 0 for never."""
        if not self.frames:
            return 0
        if self.camera.timeout > 0:
            return max(1, round(self.camera.timeout * self.camera.framerate))
        return self.camera.num_buffers if self.camera.num_buffers > 0 else self.frames

    def _jetson_encode(self, installed: frozenset[str]) -> Chain:
        if self.media == "raw":
            return ()
        if self.media == "pictures":
            return (GstElement("nvjpegenc"),)
        encoder, newer = self.camera.encoder, Encoder.NVV4L2_H264  # JetPack 5 and later have no OpenMAX
        default = "encoder" not in self.camera.changed
        if default and encoder.value not in installed and newer.value in installed:
            encoder = newer
        bitrate: dict[str, Value] = (
            {"bitrate": self.camera.bitrate * 1000} if "bitrate" in self.camera.changed else {}
        )
        parse = (GstElement(f"{self.codec}parse"),) if self.codec in ("h264", "h265") else ()
        return (GstElement(encoder.value, bitrate), *parse)

    def _stand_in_picture(self) -> Chain:
        camera = self.camera
        frames: dict[str, Value] = {"num-buffers": self._frames} if self._frames else {}
        size = _sized_caps(camera.resolution, format=camera.capture_format, framerate=camera.framerate)
        if self.device is None:
            picture: Chain = (
                GstElement("videotestsrc", {"is-live": True, "pattern": "ball", **frames}),
                size,
            )
        else:
            # Converts the format, size and rate of any camera to the requested ones.
            fit = (GstElement("videoconvert"), GstElement("videoscale"), GstElement("videorate"))
            picture = (
                GstElement("v4l2src", {"device": self.device, **frames}),
                GstElement("decodebin"),
                *fit,
                size,
            )
        if camera.flip_method is FlipMethod.NONE:
            return picture
        turn = GstElement("videoflip", {"video-direction": _TURNED[camera.flip_method]})
        return (*picture, GstElement("videoconvert"), turn, _sized_caps(self._turned))

    def _stand_in_encode(self, installed: frozenset[str]) -> Chain:
        if self.media == "raw":
            return ()
        if self.media == "pictures":
            return (GstElement("videoconvert"), GstElement("jpegenc"))
        return encode(self.codec, None, installed, self.camera.bitrate, self.camera.framerate)


def _sized_caps(size: tuple[int, int], memory: str = "", **fields: Value | None) -> GstElement:
    return caps(f"video/x-raw{memory}", width=size[0], height=size[1], **fields)


def _property(value: Any) -> Value:
    """Return a setting as ``gst-launch-1.0`` takes it."""
    if isinstance(value, tuple):
        return " ".join(f"{end:d}" if isinstance(end, int) else f"{end:.10g}" for end in value)
    if isinstance(value, IntEnum):  # `Encoder` is not a property
        return int(value)
    result: Value = value
    return result
